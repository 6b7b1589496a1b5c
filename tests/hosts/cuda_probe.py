# SPDX-License-Identifier: Apache-2.0
"""A container image of the host's own Python, so that CUDA can be asked in a container on a host without internet too."""

IMAGE = "forja-verify/cuda:1"
# libcuda itself needs the last three, which are empty since glibc 2.34.
BUILD = f"""set -e
python=$(readlink -f /usr/bin/python3)
modules=$($python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
libraries=$(ldd $python $modules/lib-dynload/_ctypes.*.so | grep -o '/[^ :)]*' | grep -v lib-dynload | grep -vx $python | sort -u)
folder=$(dirname $(echo "$libraries" | grep '/libc[.]so'))
for name in libdl.so.2 libpthread.so.0 librt.so.1; do libraries="$libraries $folder/$name"; done
tar --create --dereference --directory=/ --exclude=__pycache__ --exclude=dist-packages --exclude='*/test' \\
    $python $modules $libraries 2>/dev/null |
  docker import --change "ENTRYPOINT [\\"$python\\", \\"-c\\"]" - {IMAGE}"""
REMOVE = f"docker image rm --force {IMAGE}"
CDI = "--device nvidia.com/gpu=all"
RUNTIME = "--runtime nvidia --env NVIDIA_VISIBLE_DEVICES=all --env NVIDIA_DRIVER_CAPABILITIES=compute"
# 0 is success. Source: CUresult in cuda.h.
CU_INIT = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"


def run(gpus: str, program: str) -> str:
    """Return the command that runs a Python program in a container which gets the GPUs by `gpus`, CDI or RUNTIME."""
    return f'docker run --rm --network none {gpus} {IMAGE} "{program}"'
