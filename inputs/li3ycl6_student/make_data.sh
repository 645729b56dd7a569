#!/bin/sh
# The training and test data of the potential Li3YCl6 that comes with mlmd, by the published potential that the inputs
# of this folder name (its teacher). Takes some minutes on two cores:
#
#     sh inputs/li3ycl6_student/make_data.sh [FOLDER]     # leaves FOLDER/train.extxyz and FOLDER/test.extxyz
#
# The folder is data/ beside this file when none is named. Interrupted, the same command continues.
set -e
inputs=$(cd "$(dirname "$0")" && pwd)
teacher="$inputs/../data/models_mvl/Li3YCl6/mtp.2021.06/fitted.mtp.PBE.PBE"
folder=${1:-$inputs/data}
mkdir -p "$folder"
cd "$folder"

# 1. Dynamics. `xargs` keeps two runs going.
printf '%s\0' "$inputs"/*.toml | xargs -0 -n 1 -P 2 mlmd simulate --quiet --threads 1

# 2. Frames of the last stages, at least 0.25 ps apart. Not only those in equilibrium: volumes on their way there
#    are what the student shall know.
mlmd sample sample_*.run wide_*.run held_*.run stretched_*.run pressed_*.run --from "4.5 ps" --interval "250 fs" --n 350 --out md.extxyz
mlmd sample expanded_*.run --from "4.5 ps" --interval "250 fs" --n 30 --out expanded.extxyz
mlmd sample unseen_*.run --from "4.5 ps" --interval "250 fs" --n 60 --out unseen.extxyz
python "$inputs/distorted.py" distorted.extxyz
python "$inputs/close.py" md.extxyz close.extxyz

# 3. Labels.
mlmd label md.extxyz expanded.extxyz distorted.extxyz close.extxyz --potential "$teacher" --elements Li,Y,Cl --out train.extxyz
mlmd label unseen.extxyz --potential "$teacher" --elements Li,Y,Cl --out test.extxyz
