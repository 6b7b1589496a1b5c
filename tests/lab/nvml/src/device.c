// SPDX-License-Identifier: Apache-2.0
// GPUs and what they say about themselves. Many of these take a MIG device as well.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

NVML(nvmlDeviceGetCount_v2, (unsigned *count), (count))
{
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = sim->gpu_count;
    return NVML_SUCCESS;
}
NVML_AS(nvmlDeviceGetCount, nvmlDeviceGetCount_v2, (unsigned *count), (count));

NVML(nvmlDeviceGetHandleByIndex_v2, (unsigned index, nvmlDevice_t *device), (index, device))
{
    if (!device || index >= sim->gpu_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = device_handle(index);
    sim_current->gpu = index;
    return NVML_SUCCESS;
}
NVML_AS(nvmlDeviceGetHandleByIndex, nvmlDeviceGetHandleByIndex_v2, (unsigned index, nvmlDevice_t *device), (index, device));

NVML(nvmlDeviceGetHandleByUUID, (const char *uuid, nvmlDevice_t *device), (uuid, device))
{
    if (!uuid || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned gpu = 0; gpu < sim->gpu_count; gpu++) {
        if (!strcmp(sim->gpus[gpu].uuid, uuid)) {
            *device = device_handle(gpu);
            return NVML_SUCCESS;
        }
        for (unsigned gi = 0; gi < SIM_INSTANCES; gi++)
            for (unsigned ci = 0; ci < SIM_COMPUTES; ci++) {
                const struct sim_instance *instance = &sim->gpus[gpu].instances[gi];
                const struct sim_compute *compute = &instance->compute[ci];
                if (instance->used && compute->used && !strcmp(sim->gpus[gpu].mig_uuids[gi][compute->start], uuid)) {
                    *device = mig_handle(gpu, gi, ci);
                    return NVML_SUCCESS;
                }
            }
    }
    return NVML_ERROR_NOT_FOUND;
}

NVML(nvmlDeviceGetHandleBySerial, (const char *serial, nvmlDevice_t *device), (serial, device))
{
    if (!serial || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned gpu = 0; gpu < sim->gpu_count; gpu++)
        if (!strcmp(sim->gpus[gpu].board_serial, serial)) {
            *device = device_handle(gpu);
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

// Takes "0000:07:00.0", "00000000:07:00.0" and "07:00.0", in either case.
NVML(nvmlDeviceGetHandleByPciBusId_v2, (const char *address, nvmlDevice_t *device), (address, device))
{
    unsigned domain = 0, bus, slot, function;
    char rest;
    if (!address || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (sscanf(address, "%x:%x:%x.%x%c", &domain, &bus, &slot, &function, &rest) != 4) {
        domain = 0;
        if (sscanf(address, "%x:%x.%x%c", &bus, &slot, &function, &rest) != 3)
            return NVML_ERROR_INVALID_ARGUMENT;
    }
    for (unsigned gpu = 0; gpu < sim->gpu_count; gpu++)
        if (sim->gpus[gpu].domain == domain && sim->gpus[gpu].bus == bus && sim->gpus[gpu].device == slot && function == 0) {
            *device = device_handle(gpu);
            sim_current->gpu = gpu;
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}
NVML_AS(nvmlDeviceGetHandleByPciBusId, nvmlDeviceGetHandleByPciBusId_v2, (const char *address, nvmlDevice_t *device), (address, device));

NVML(nvmlDeviceGetName, (nvmlDevice_t device, char *name, unsigned size), (device, name, size))
{
    struct target target = any_device(device);
    char text[96], part[48];
    if (!target.gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    copy_text(text, target.gpu->name, sizeof text);
    if (target.compute) {
        const struct sim_gi_profile *profile = &target.gpu->profiles[target.instance->profile];
        mig_name(profile, profile->compute[target.compute->profile].slices, part, sizeof part);
        snprintf(text + strlen(text), sizeof text - strlen(text), " %s", part);
    }
    return answer_text(text, name, size);
}

NVML(nvmlDeviceGetUUID, (nvmlDevice_t device, char *uuid, unsigned size), (device, uuid, size))
{
    struct target target = any_device(device);
    if (!target.gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    return answer_text(target.compute ? target.gpu->mig_uuids[target.gi][target.compute->start] : target.gpu->uuid, uuid, size);
}

NVML(nvmlDeviceGetSerial, (nvmlDevice_t device, char *serial, unsigned size), (device, serial, size))
{
    struct target target = any_device(device);
    if (!target.gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    return answer_text(target.gpu->board_serial, serial, size);
}

// For the functions that answer one number about a GPU: `field` may use `target`.
#define NUMBER(name, type, find, field)                                                                                           \
    NVML(name, (nvmlDevice_t device, type *value), (device, value))                                                               \
    {                                                                                                                             \
        struct target target = find(device);                                                                                      \
        if (!target.gpu || !value)                                                                                                \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                                   \
        *value = field;                                                                                                           \
        return NVML_SUCCESS;                                                                                                      \
    }

#define TESLA_BRAND 2
NUMBER(nvmlDeviceGetIndex, unsigned, gpu_device, target.gpu_index)
NUMBER(nvmlDeviceGetMinorNumber, unsigned, gpu_device, target.gpu_index)
NUMBER(nvmlDeviceGetBrand, unsigned, any_device, TESLA_BRAND)
NUMBER(nvmlDeviceGetArchitecture, unsigned, any_device, target.gpu->architecture)
NUMBER(nvmlDeviceGetPersistenceMode, unsigned, any_device, target.gpu->persistence)
NUMBER(nvmlDeviceGetVirtualizationMode, unsigned, any_device, target.gpu->passthrough) // 0 none, 1 pass-through
NUMBER(nvmlDeviceGetComputeMode, unsigned, any_device, 0)

NVML(nvmlDeviceSetPersistenceMode, (nvmlDevice_t device, unsigned mode), (device, mode))
{
    struct target target = gpu_device(device);
    sim_current->value = mode;
    if (!target.gpu || mode > 1)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    target.gpu->persistence = mode;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetCudaComputeCapability, (nvmlDevice_t device, int *major, int *minor), (device, major, minor))
{
    struct target target = any_device(device);
    if (!target.gpu || !major || !minor)
        return NVML_ERROR_INVALID_ARGUMENT;
    *major = (int)target.gpu->capability_major;
    *minor = (int)target.gpu->capability_minor;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetEccMode, (nvmlDevice_t device, unsigned *now, unsigned *pending), (device, now, pending))
{
    struct target target = any_device(device);
    if (!target.gpu || !now || !pending)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (target.gpu->ecc == SIM_NONE)
        return NVML_ERROR_NOT_SUPPORTED;
    *now = *pending = target.gpu->ecc;
    return NVML_SUCCESS;
}

static void pci_text(const struct sim_gpu *gpu, unsigned digits, char *text, size_t size)
{
    snprintf(text, size, "%0*X:%02X:%02X.0", (int)digits, gpu->domain, gpu->bus, gpu->device);
}

NVML(nvmlDeviceGetPciInfo_v3, (nvmlDevice_t device, nvmlPciInfo_t *info), (device, info))
{
    struct target target = any_device(device);
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    *info = (nvmlPciInfo_t){.domain = target.gpu->domain, .bus = target.gpu->bus, .device = target.gpu->device,
                            .pciDeviceId = target.gpu->pci_id, .pciSubSystemId = target.gpu->pci_subsystem_id};
    pci_text(target.gpu, 4, info->busIdLegacy, sizeof info->busIdLegacy);
    pci_text(target.gpu, 8, info->busId, sizeof info->busId);
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetPciInfo_v2, (nvmlDevice_t device, nvmlPciInfo_v2_t *info), (device, info))
{
    struct target target = any_device(device);
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    *info = (nvmlPciInfo_v2_t){.domain = target.gpu->domain, .bus = target.gpu->bus, .device = target.gpu->device,
                               .pciDeviceId = target.gpu->pci_id, .pciSubSystemId = target.gpu->pci_subsystem_id};
    pci_text(target.gpu, 4, info->busId, sizeof info->busId);
    return NVML_SUCCESS;
}
NVML_AS(nvmlDeviceGetPciInfo, nvmlDeviceGetPciInfo_v2, (nvmlDevice_t device, nvmlPciInfo_v2_t *info), (device, info));

NVML(nvmlDeviceGetPciInfoExt, (nvmlDevice_t device, nvmlPciInfoExt_t *info), (device, info))
{
    struct target target = any_device(device);
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != NVML_STRUCT_VERSION(nvmlPciInfoExt_t, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    *info = (nvmlPciInfoExt_t){.version = info->version, .domain = target.gpu->domain, .bus = target.gpu->bus,
                               .device = target.gpu->device, .pciDeviceId = target.gpu->pci_id,
                               .pciSubSystemId = target.gpu->pci_subsystem_id, .baseClass = 3, .subClass = 2};
    pci_text(target.gpu, 8, info->busId, sizeof info->busId);
    return NVML_SUCCESS;
}

// What registered processes use is in use, nothing else is.
static nvmlMemory_t memory_of(struct target target)
{
    uint64_t total = target.instance ? target.gpu->profiles[target.instance->profile].memory_mib : target.gpu->memory_mib, used = 0;
    for (const struct sim_process *process = sim->processes; process < sim->processes + SIM_PROCESSES; process++)
        if (process->used && process->gpu == target.gpu_index && (!target.instance || process->gi == target.gi) && alive(process))
            used += process->memory_mib;
    used = used < total ? used : total;
    return (nvmlMemory_t){.total = total << 20, .used = used << 20, .free = (total - used) << 20};
}

NVML(nvmlDeviceGetMemoryInfo, (nvmlDevice_t device, nvmlMemory_t *memory), (device, memory))
{
    struct target target = any_device(device);
    if (!target.gpu || !memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    *memory = memory_of(target);
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetMemoryInfo_v2, (nvmlDevice_t device, nvmlMemory_v2_t *memory), (device, memory))
{
    struct target target = any_device(device);
    if (!target.gpu || !memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != NVML_STRUCT_VERSION(nvmlMemory_v2_t, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlMemory_t now = memory_of(target);
    memory->total = now.total;
    memory->reserved = 0;
    memory->free = now.free;
    memory->used = now.used;
    return NVML_SUCCESS;
}
