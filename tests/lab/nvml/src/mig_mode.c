// SPDX-License-Identifier: Apache-2.0
// MIG mode: what is on now, and what will be on after the next reset.
#include "sim.h"

NVML(nvmlDeviceGetMigMode, (nvmlDevice_t device, unsigned *current, unsigned *pending), (device, current, pending))
{
    struct target target = gpu_device(device);
    if (!target.gpu || !current || !pending)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!target.gpu->mig_capable)
        return NVML_ERROR_NOT_SUPPORTED;
    *current = target.gpu->mig_current;
    *pending = target.gpu->mig_pending;
    return NVML_SUCCESS;
}

// Why the mode cannot become effective now. NVML itself succeeds then, and only this status tells.
static nvmlReturn_t hindrance(const struct target *target)
{
    const struct sim_gpu *gpu = target->gpu;
    if (gpu->mig_current == gpu->mig_pending)
        return NVML_SUCCESS;
    if (sim_activation != SIM_NONE)
        return (nvmlReturn_t)sim_activation;
    for (unsigned gi = 0; gi < SIM_INSTANCES; gi++)
        if (gpu->instances[gi].used)
            return NVML_ERROR_IN_USE;
    if (busy(target->gpu_index, SIM_NONE, SIM_NONE))
        return NVML_ERROR_IN_USE;
    // A virtual machine cannot reset the GPU that is passed through to it.
    if (gpu->mode_needs_reset && gpu->passthrough)
        return NVML_ERROR_RESET_REQUIRED;
    return NVML_SUCCESS;
}

// An idle Ampere GPU is reset by the call itself, Hopper and later need no reset: either way the mode is effective at once.
NVML(nvmlDeviceSetMigMode, (nvmlDevice_t device, unsigned mode, nvmlReturn_t *activation), (device, mode, activation))
{
    struct target target = gpu_device(device);
    sim_current->value = mode;
    if (!target.gpu || !activation || mode > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!target.gpu->mig_capable)
        return NVML_ERROR_NOT_SUPPORTED;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    target.gpu->mig_pending = mode;
    *activation = hindrance(&target);
    if (*activation == NVML_SUCCESS)
        target.gpu->mig_current = mode;
    return NVML_SUCCESS;
}
