// SPDX-License-Identifier: Apache-2.0
// MIG devices: compute instances as programs see them. They are numbered by GPU instance, then by compute instance.
#include "sim.h"

NVML(nvmlDeviceIsMigDeviceHandle, (nvmlDevice_t device, unsigned *answer), (device, answer))
{
    struct target target = any_device(device);
    if (!target.gpu || !answer)
        return NVML_ERROR_INVALID_ARGUMENT;
    *answer = target.compute != NULL;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetMaxMigDeviceCount, (nvmlDevice_t device, unsigned *count), (device, count))
{
    struct target target = gpu_device(device);
    if (!target.gpu || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = mig_enabled(target.gpu) ? target.gpu->max_mig_devices : 0;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetMigDeviceHandleByIndex, (nvmlDevice_t device, unsigned index, nvmlDevice_t *mig), (device, index, mig))
{
    struct target target = gpu_device(device);
    sim_current->value = index;
    if (!target.gpu || !mig)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!mig_enabled(target.gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    if (index >= target.gpu->max_mig_devices)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned gi = 0; gi < SIM_INSTANCES; gi++)
        for (unsigned ci = 0; ci < SIM_COMPUTES; ci++) {
            const struct sim_instance *instance = &target.gpu->instances[gi];
            if (instance->used && instance->compute[ci].used && index-- == 0) {
                *mig = mig_handle(target.gpu_index, gi, ci);
                return NVML_SUCCESS;
            }
        }
    return NVML_ERROR_NOT_FOUND;
}

NVML(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, (nvmlDevice_t mig, nvmlDevice_t *device), (mig, device))
{
    struct target target = mig_device(mig);
    if (!target.gpu || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = device_handle(target.gpu_index);
    return NVML_SUCCESS;
}

#define PART(name, field)                                                                                                         \
    NVML(name, (nvmlDevice_t mig, unsigned *id), (mig, id))                                                                       \
    {                                                                                                                             \
        struct target target = mig_device(mig);                                                                                   \
        if (!target.gpu || !id)                                                                                                   \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                                   \
        *id = target.field;                                                                                                       \
        return NVML_SUCCESS;                                                                                                      \
    }
PART(nvmlDeviceGetGpuInstanceId, gi)
PART(nvmlDeviceGetComputeInstanceId, ci)

NVML(nvmlDeviceGetAttributes_v2, (nvmlDevice_t device, nvmlDeviceAttributes_t *attributes), (device, attributes))
{
    struct target target = any_device(device);
    if (!target.gpu || !attributes)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!target.compute)
        return NVML_ERROR_NOT_SUPPORTED;
    const struct sim_gi_profile *gi = &target.gpu->profiles[target.instance->profile];
    const struct sim_ci_profile *ci = &gi->compute[target.compute->profile];
    *attributes = (nvmlDeviceAttributes_t){ci->multiprocessors, gi->copy_engines, gi->decoders, gi->encoders, gi->jpegs,
                                           gi->ofas, gi->slices, ci->slices, gi->memory_mib};
    return NVML_SUCCESS;
}
NVML_AS(nvmlDeviceGetAttributes, nvmlDeviceGetAttributes_v2, (nvmlDevice_t device, nvmlDeviceAttributes_t *attributes), (device, attributes));
