// SPDX-License-Identifier: Apache-2.0
// Who uses a GPU: the processes that the tool registered, as compute processes.
#include "sim.h"

// With `wide`, the array has the members that came with MIG.
static nvmlReturn_t processes(nvmlDevice_t device, unsigned *count, void *array, bool wide)
{
    struct target target = any_device(device);
    if (!target.gpu || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned room = array ? *count : 0, found = 0;
    for (const struct sim_process *process = sim->processes; process < sim->processes + SIM_PROCESSES; process++) {
        bool mine = process->used && process->gpu == target.gpu_index && (!target.instance || process->gi == target.gi)
                    && (!target.compute || process->ci == target.ci);
        if (!mine || !alive(process))
            continue;
        if (found < room && wide)
            ((nvmlProcessInfo_t *)array)[found] =
                (nvmlProcessInfo_t){process->pid, (unsigned long long)process->memory_mib << 20, process->gi, process->ci};
        else if (found < room)
            ((nvmlProcessInfo_v1_t *)array)[found] =
                (nvmlProcessInfo_v1_t){process->pid, (unsigned long long)process->memory_mib << 20};
        found++;
    }
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned *count)
{
    if (!any_device(device).gpu || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

#define COMPUTE(name, wide)                                                                                                       \
    NVML(name, (nvmlDevice_t device, unsigned *count, void *array), (device, count, array))                                       \
    {                                                                                                                             \
        return processes(device, count, array, wide);                                                                             \
    }
#define EMPTY(name)                                                                                                               \
    NVML(name, (nvmlDevice_t device, unsigned *count, void *array), (device, count, array))                                       \
    {                                                                                                                             \
        (void)array;                                                                                                              \
        return no_processes(device, count);                                                                                       \
    }

COMPUTE(nvmlDeviceGetComputeRunningProcesses, false)
COMPUTE(nvmlDeviceGetComputeRunningProcesses_v2, true)
COMPUTE(nvmlDeviceGetComputeRunningProcesses_v3, true)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses_v2)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses_v3)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses_v2)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses_v3)
