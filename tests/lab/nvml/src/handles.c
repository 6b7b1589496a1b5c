// SPDX-License-Identifier: Apache-2.0
// Handles and small questions. A handle is a number, not an address: kind, GPU, GPU instance, compute instance, and the serial of
// the innermost of them, so that the handle of a destroyed instance stays invalid even when its place is taken again. The topmost
// byte makes it an address that no program can own (Go's runtime looks at pointers).
#include <stdio.h>
#include <string.h>

#include "sim.h"

enum kind { DEVICE = 1, MIG_DEVICE, INSTANCE, COMPUTE };
#define MARK 0x4dULL

static uintptr_t encode(enum kind kind, unsigned gpu, unsigned gi, unsigned ci, unsigned serial)
{
    return (uintptr_t)(MARK << 56 | (uint64_t)kind << 48 | (uint64_t)gpu << 42 | (uint64_t)gi << 37 | (uint64_t)ci << 32 | serial);
}

static const struct sim_instance *instance_at(unsigned gpu, unsigned gi) { return &sim->gpus[gpu].instances[gi]; }

nvmlDevice_t device_handle(unsigned gpu) { return (nvmlDevice_t)encode(DEVICE, gpu, 0, 0, 0); }

nvmlDevice_t mig_handle(unsigned gpu, unsigned gi, unsigned ci)
{
    return (nvmlDevice_t)encode(MIG_DEVICE, gpu, gi, ci, instance_at(gpu, gi)->compute[ci].serial);
}

nvmlGpuInstance_t instance_handle(unsigned gpu, unsigned gi)
{
    return (nvmlGpuInstance_t){(struct nvmlGpuInstance_st *)encode(INSTANCE, gpu, gi, 0, instance_at(gpu, gi)->serial)};
}

nvmlComputeInstance_t compute_handle(unsigned gpu, unsigned gi, unsigned ci)
{
    return (nvmlComputeInstance_t){(struct nvmlComputeInstance_st *)encode(COMPUTE, gpu, gi, ci, instance_at(gpu, gi)->compute[ci].serial)};
}

static struct target decode(uintptr_t handle, enum kind kind)
{
    uint64_t bits = handle;
    unsigned gpu = bits >> 42 & 0x3f, gi = bits >> 37 & 0x1f, ci = bits >> 32 & 0x1f, serial = (uint32_t)bits;
    struct target none = {.gpu_index = SIM_NONE, .gi = SIM_NONE, .ci = SIM_NONE}, found = none;
    if (bits >> 56 != MARK || (bits >> 48 & 0xff) != kind || gpu >= sim->gpu_count || gi >= SIM_INSTANCES || ci >= SIM_COMPUTES)
        return none;
    found.gpu = &sim->gpus[gpu];
    found.gpu_index = gpu;
    if (kind != DEVICE) {
        found.instance = &found.gpu->instances[gi];
        found.gi = gi;
        if (!found.instance->used || (kind == INSTANCE && found.instance->serial != serial))
            return none;
    }
    if (kind == MIG_DEVICE || kind == COMPUTE) {
        found.compute = &found.instance->compute[ci];
        found.ci = ci;
        if (!found.compute->used || found.compute->serial != serial)
            return none;
    }
    sim_current->gpu = found.gpu_index;
    sim_current->gi = found.gi;
    sim_current->ci = found.ci;
    return found;
}

struct target gpu_device(nvmlDevice_t handle) { return decode((uintptr_t)handle, DEVICE); }
struct target mig_device(nvmlDevice_t handle) { return decode((uintptr_t)handle, MIG_DEVICE); }
struct target of_instance(nvmlGpuInstance_t handle) { return decode((uintptr_t)handle.handle, INSTANCE); }
struct target of_compute(nvmlComputeInstance_t handle) { return decode((uintptr_t)handle.handle, COMPUTE); }

struct target any_device(nvmlDevice_t handle)
{
    struct target found = gpu_device(handle);
    return found.gpu ? found : mig_device(handle);
}

bool overlaps(unsigned start, unsigned size, unsigned other_start, unsigned other_size)
{
    return start < other_start + other_size && other_start < start + size;
}

void copy_text(char *target, const char *source, size_t size)
{
    if (size)
        snprintf(target, size, "%s", source);
}

nvmlReturn_t answer_text(const char *text, char *target, unsigned size)
{
    if (!target)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    copy_text(target, text, size);
    return NVML_SUCCESS;
}

// "MIG 3g.20gb", or "MIG 1c.3g.20gb" for a part of the GPU instance's slices.
void mig_name(const struct sim_gi_profile *profile, unsigned slices, char *text, size_t size)
{
    if (slices == profile->slices)
        snprintf(text, size, "MIG %s", profile->name);
    else
        snprintf(text, size, "MIG %uc.%s", slices, profile->name);
}

bool mig_enabled(const struct sim_gpu *gpu) { return gpu->mig_capable && gpu->mig_current; }

void forget_instances(struct sim_gpu *gpu) { memset(gpu->instances, 0, sizeof gpu->instances); }

// A process that ended, even if nobody has waited for it, holds nothing any more.
bool alive(const struct sim_process *process)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", process->pid);
    FILE *stat = fopen(path, "re");
    if (!stat)
        return false;
    size_t size = fread(text, 1, sizeof text - 1, stat);
    fclose(stat);
    text[size] = 0;
    char state;
    unsigned long long started;
    const char *rest = strrchr(text, ')'); // the name before it may hold anything
    if (!rest || sscanf(rest, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &state, &started) != 2)
        return false;
    return started == process->started && state != 'Z' && state != 'X';
}

// A process on an instance of which no compute instance is told may be on any of them.
bool busy(unsigned gpu, unsigned gi, unsigned ci)
{
    for (const struct sim_process *process = sim->processes; process < sim->processes + SIM_PROCESSES; process++)
        if (process->used && process->gpu == gpu && (gi == SIM_NONE || process->gi == gi)
            && (ci == SIM_NONE || process->ci == ci || process->ci == SIM_NONE) && alive(process))
            return true;
    return false;
}
