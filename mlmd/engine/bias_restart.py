"""What is told of a bias that begins or goes on, and how it passes the step at which it goes on."""

from __future__ import annotations

from mlmd.bias.hyperdynamics import BondBoost
from mlmd.bias.script import Script
from mlmd.engine.biases import AnyBias
from mlmd.engine.stage import DynamicsStage
from mlmd.rundir import Messages


def restart_bias(stage: DynamicsStage, earlier: Script | None, messages: Messages, *, resumed: bool) -> bool:
    """Bring a bias that goes on to its first step, and tell what it has lost.

    Args:
        stage: with the bias.
        earlier: script of the last stage of dynamics before this one.
        messages: of the run.
        resumed: whether the run was stopped within this stage.

    Returns:
        Whether it has deposited and printed for its first step before, and has to pass it.
    """
    bias = stage.forces.bias
    if bias is None or isinstance(bias, BondBoost) or not bias.restarted:
        return False
    for action in bias.script.forgetful:
        messages(
            f"{bias.script.path.name}: PLUMED does not keep the memory of {action}, which starts anew here: "
            "the run continues statistically, without what it had accumulated or adapted"
        )
    if resumed and bias.script.shared:
        messages(
            f"the hills that walkers share in {', '.join(bias.script.shared)} are not cut back to the checkpoint, "
            "as others may have read them: the run continues statistically"
        )
    if not resumed and (earlier is None or earlier.path != bias.script.path):
        return False
    stage.answer()
    return True


def name_bias(bias: AnyBias | None, messages: Messages) -> None:
    """Tell which bias begins to act."""
    if isinstance(bias, BondBoost):
        messages(f"hyperdynamics: {bias.n_bonds:,} bonds of the quenched state are watched")
    elif bias is not None:
        messages(f"bias of {bias.script.path.name} by PLUMED {bias.version}, kernel {bias.kernel}")
