"""Networks of NequIP and Allegro with random numbers, in every kind of file that they come in.

    python random_nequip.py FILE KIND

KIND is nequip or allegro; FILE ends with .ckpt, .nequip.zip (made of a .ckpt beside it), .nequip.pth or .nequip.pt2
(which takes a compiler for C++ and a minute).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ase.io
import lightning
import nequip.scripts.compile
import nequip.scripts.package
import torch
from ase.build import bulk
from nequip.model.inference_models.torchscript import save_torchscript_model
from nequip.train import NequIPLightningModule
from nequip.train.lightning import _SOLE_MODEL_KEY
from nequip.utils import get_current_code_versions
from nequip.utils.global_state import get_latest_global_state, set_global_state

TYPES = ["Li", "Cl"]
CUTOFF = 4.0
COMMON = {
    "seed": 1, "model_dtype": "float64", "type_names": TYPES, "r_max": CUTOFF, "avg_num_neighbors": 8.0,
    "per_type_energy_scales": {"Li": 1.0, "Cl": 1.5}, "per_type_energy_shifts": {"Li": -1.5, "Cl": -3.25},
    "pair_potential": {
        "_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": TYPES,
    },
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "nequip": {
        "_target_": "nequip.model.NequIPGNNModel", "num_layers": 2, "l_max": 1, "num_features": 4, "num_bessels": 4,
        "radial_mlp_width": 8, **COMMON,
    },
    "allegro": {
        "_target_": "allegro.model.AllegroModel", "num_layers": 2, "l_max": 1, "num_scalar_features": 8,
        "num_tensor_features": 4, "allegro_mlp_hidden_layers_width": 8, "readout_mlp_hidden_layers_width": 8,
        "per_edge_type_cutoff": {"Li": 3.5, "Cl": {"Li": 3.0, "Cl": 4.0}},
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 4,
            "module_output_dim": 8,
        },
        **COMMON,
    },
}  # fmt: skip


def checkpoint(kind: str, path: Path) -> NequIPLightningModule:
    """A file as a training writes it, and the network in it."""
    frame = path.with_suffix(".extxyz")
    ase.io.write(frame, bulk("LiCl", "rocksalt", 5.1, cubic=True))
    transforms = [
        {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": TYPES},
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": CUTOFF},
    ]
    module = {"_target_": "nequip.train.NequIPLightningModule"}
    told = {
        "versions": get_current_code_versions(verbose=False),
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule", "seed": 1,
            "train_file_path": str(frame), "val_file_path": str(frame),
            "transforms": transforms,
        },
        "training_module": module,
    }  # fmt: skip
    made = NequIPLightningModule(
        model=NETWORKS[kind], num_datasets={"train": 1, "val": 0, "test": 0, "predict": 0}, info_dict=told
    )
    torch.save(
        {
            "state_dict": made.state_dict(),
            "hyper_parameters": dict(made.hparams),
            "pytorch-lightning_version": lightning.__version__,
        },
        path,
    )
    return made


if __name__ == "__main__":
    file, kind = Path(sys.argv[1]), sys.argv[2]
    set_global_state()
    stem = file.with_name(file.name.partition(".")[0])
    made = checkpoint(kind, stem.with_suffix(".ckpt"))
    if file.name.endswith(".nequip.pth"):
        network = made.model[_SOLE_MODEL_KEY].eval()
        known = network.metadata | get_latest_global_state(only_metadata_related=True)
        told = {key: str(int(value)) if isinstance(value, bool) else value for key, value in known.items()}
        save_torchscript_model(network, told, str(file), "cpu")
    elif file.name.endswith(".nequip.pt2"):
        nequip.scripts.compile.main(
            [str(stem.with_suffix(".ckpt")), str(file), "--mode", "aotinductor", "--device", "cpu", "--target", "ase"]
        )
    elif file.name.endswith(".nequip.zip"):
        nequip.scripts.package.main(["build", str(stem.with_suffix(".ckpt")), str(file)])
