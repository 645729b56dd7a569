"""Scattering: structure factors from positions, their partials, the weights of radiations, functions of distance."""
