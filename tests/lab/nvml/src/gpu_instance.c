// SPDX-License-Identifier: Apache-2.0
// GPU instances: which kinds a board offers, where they can be, making and destroying them.
#include <stdio.h>

#include "sim.h"

// --- profiles -----------------------------------------------------------------------------------------------------------

static nvmlReturn_t find_profile(nvmlDevice_t device, unsigned index, const struct sim_gi_profile **profile)
{
    struct target target = gpu_device(device);
    if (!target.gpu || index >= SIM_GI_PROFILES)
        return NVML_ERROR_INVALID_ARGUMENT;
    // nvml.h says that MIG mode must be on; drivers answer without it too. The machine's description chooses.
    if (!target.gpu->mig_capable || (sim->profiles_need_mode && !target.gpu->mig_current) || !target.gpu->profiles[index].offered)
        return NVML_ERROR_NOT_SUPPORTED;
    *profile = &target.gpu->profiles[index];
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetGpuInstanceProfileInfo, (nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_t *info), (device, index, info))
{
    const struct sim_gi_profile *profile;
    sim_current->value = index;
    nvmlReturn_t result = info ? find_profile(device, index, &profile) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *info = (nvmlGpuInstanceProfileInfo_t){profile->id, 0, profile->slices, profile->count, profile->multiprocessors,
                                               profile->copy_engines, profile->decoders, profile->encoders, profile->jpegs,
                                               profile->ofas, profile->memory_mib};
    return result;
}

static nvmlReturn_t answer_profile(const struct sim_gi_profile *profile, void *info)
{
    nvmlGpuInstanceProfileInfo_v2_t *v2 = info;
    nvmlGpuInstanceProfileInfo_v3_t *v3 = info;
    char name[96];
    mig_name(profile, profile->slices, name, sizeof name);
    if (v2->version == NVML_STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2)) {
        *v2 = (nvmlGpuInstanceProfileInfo_v2_t){v2->version, profile->id, 0, profile->slices, profile->count,
                                                profile->multiprocessors, profile->copy_engines, profile->decoders,
                                                profile->encoders, profile->jpegs, profile->ofas, profile->memory_mib, ""};
        copy_text(v2->name, name, sizeof v2->name);
        return NVML_SUCCESS;
    }
    if (v3->version == NVML_STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v3_t, 3)) {
        *v3 = (nvmlGpuInstanceProfileInfo_v3_t){v3->version, profile->id, profile->slices, profile->count,
                                                profile->multiprocessors, profile->copy_engines, profile->decoders,
                                                profile->encoders, profile->jpegs, profile->ofas, profile->memory_mib, "",
                                                profile->graphics ? 2 : 0};
        copy_text(v3->name, name, sizeof v3->name);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_INVALID_ARGUMENT; // as nvml.h says of a wrong version here
}

NVML(nvmlDeviceGetGpuInstanceProfileInfoV, (nvmlDevice_t device, unsigned index, void *info), (device, index, info))
{
    const struct sim_gi_profile *profile;
    sim_current->value = index;
    nvmlReturn_t result = info ? find_profile(device, index, &profile) : NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS ? answer_profile(profile, info) : result;
}

static const struct sim_gi_profile *profile_of(const struct sim_gpu *gpu, unsigned id)
{
    for (const struct sim_gi_profile *profile = gpu->profiles; profile < gpu->profiles + SIM_GI_PROFILES; profile++)
        if (profile->offered && profile->id == id)
            return profile;
    return NULL;
}

NVML(nvmlDeviceGetGpuInstanceProfileInfoByIdV, (nvmlDevice_t device, unsigned id, void *info), (device, id, info))
{
    struct target target = gpu_device(device);
    sim_current->value = id;
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!target.gpu->mig_capable || (sim->profiles_need_mode && !target.gpu->mig_current))
        return NVML_ERROR_NOT_SUPPORTED;
    const struct sim_gi_profile *profile = profile_of(target.gpu, id);
    return profile ? answer_profile(profile, info) : NVML_ERROR_INVALID_ARGUMENT;
}

// --- room ---------------------------------------------------------------------------------------------------------------

static bool is_free(const struct sim_gpu *gpu, struct sim_placement place)
{
    for (const struct sim_instance *other = gpu->instances; other < gpu->instances + SIM_INSTANCES; other++)
        if (other->used && overlaps(place.start, place.size, other->start, other->size))
            return false;
    return true;
}

// How many more of a profile its own limit and the engines allow. That engines are a limit is inferred: a profile that has all
// of them (+me.all) can only exist beside profiles that have none.
static unsigned allowed(const struct sim_gpu *gpu, const struct sim_gi_profile *profile)
{
    unsigned left = profile->count;
    unsigned need[] = {profile->decoders, profile->encoders, profile->jpegs, profile->ofas};
    unsigned engines[4];
    for (unsigned i = 0; i < 4; i++)
        engines[i] = gpu->engines[i];
    for (const struct sim_instance *other = gpu->instances; other < gpu->instances + SIM_INSTANCES; other++) {
        if (!other->used)
            continue;
        const struct sim_gi_profile *theirs = &gpu->profiles[other->profile];
        unsigned taken[] = {theirs->decoders, theirs->encoders, theirs->jpegs, theirs->ofas};
        if (theirs == profile && left)
            left--;
        for (unsigned i = 0; i < 4; i++)
            engines[i] -= taken[i] < engines[i] ? taken[i] : engines[i];
    }
    for (unsigned i = 0; i < 4; i++)
        if (need[i] && engines[i] / need[i] < left)
            left = engines[i] / need[i];
    return left;
}

static unsigned remaining(const struct sim_gpu *gpu, const struct sim_gi_profile *profile)
{
    unsigned places = 0, limit = allowed(gpu, profile);
    for (unsigned i = 0; i < profile->placement_count; i++) // placements of one profile never overlap each other
        places += is_free(gpu, profile->placements[i]);
    return places < limit ? places : limit;
}

// The nodes of the buddy tree over the physical leaves: 0 is the whole, 1 and 2 its halves, 3 to 6 the quarters, 7 to 14 the
// eighths. NVML's placements are not physical: on boards whose first half lacks a compute slice the halves are swapped, so that
// every board offers the same placements, and only the ids tell the boards apart.
static struct sim_placement node(const struct sim_gpu *gpu, unsigned id)
{
    unsigned first = 0, leaves = gpu->leaves;
    for (unsigned level_start = 0, width = 1; id >= level_start + width; level_start += width, width *= 2)
        leaves /= 2, first = level_start + width;
    unsigned start = (id - first) * leaves;
    if (gpu->halves_swapped && id)
        start = (start + gpu->leaves / 2) % gpu->leaves;
    return (struct sim_placement){start * gpu->leaf_size, leaves * gpu->leaf_size};
}

static unsigned nodes(const struct sim_gpu *gpu) { return 2 * gpu->leaves - 1; }

static unsigned id_of(const struct sim_gpu *gpu, struct sim_placement place)
{
    for (unsigned id = 0; id < nodes(gpu); id++)
        if (node(gpu, id).start == place.start && node(gpu, id).size == place.size)
            return id;
    return SIM_NONE;
}

// The driver's own choice: what leaves the most other nodes usable, of equal ones the lowest id. A node counts as usable only
// if all of its leaves compute. Inferred from the rule for compute instances in NVIDIA's open kernel modules; it gives every
// listing of a real GPU that it was compared with.
static const struct sim_placement *choose(const struct sim_gpu *gpu, const struct sim_gi_profile *profile)
{
    const struct sim_placement *best = NULL;
    unsigned most = 0;
    for (unsigned i = 0; i < profile->placement_count; i++) {
        const struct sim_placement *place = &profile->placements[i];
        if (!is_free(gpu, *place))
            continue;
        unsigned usable = 1;
        for (unsigned id = 0; id < nodes(gpu); id++) {
            struct sim_placement other = node(gpu, id);
            bool whole = gpu->computeless_leaf == SIM_NONE
                         || !overlaps(other.start, other.size, gpu->computeless_leaf * gpu->leaf_size, gpu->leaf_size);
            usable += whole && is_free(gpu, other) && !overlaps(other.start, other.size, place->start, place->size);
        }
        if (usable > most) {
            most = usable;
            best = place;
        }
    }
    return best;
}

// --- the functions ------------------------------------------------------------------------------------------------------

// What all calls about a profile of a GPU check first.
static nvmlReturn_t enter_profile(nvmlDevice_t device, unsigned id, bool mode, struct target *target, const struct sim_gi_profile **profile)
{
    sim_current->value = id;
    *target = gpu_device(device);
    if (!target->gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!target->gpu->mig_capable || (mode && !target->gpu->mig_current))
        return NVML_ERROR_NOT_SUPPORTED;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    *profile = profile_of(target->gpu, id);
    return *profile ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t placements(nvmlDevice_t device, unsigned id, nvmlPlacement_t *array, unsigned *count)
{
    struct target target;
    const struct sim_gi_profile *profile;
    nvmlReturn_t result = enter_profile(device, id, sim->profiles_need_mode, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    for (unsigned i = 0; array && i < profile->placement_count; i++)
        array[i] = (nvmlPlacement_t){profile->placements[i].start, profile->placements[i].size};
    *count = profile->placement_count;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetGpuInstancePossiblePlacements_v2, (nvmlDevice_t device, unsigned id, nvmlPlacement_t *array, unsigned *count),
     (device, id, array, count))
{
    return count ? placements(device, id, array, count) : NVML_ERROR_INVALID_ARGUMENT;
}

// The first version could not be asked for the count alone.
NVML(nvmlDeviceGetGpuInstancePossiblePlacements, (nvmlDevice_t device, unsigned id, nvmlPlacement_t *array, unsigned *count),
     (device, id, array, count))
{
    return array && count ? placements(device, id, array, count) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML(nvmlDeviceGetGpuInstanceRemainingCapacity, (nvmlDevice_t device, unsigned id, unsigned *count), (device, id, count))
{
    struct target target;
    const struct sim_gi_profile *profile;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(device, id, true, &target, &profile);
    if (result == NVML_SUCCESS)
        *count = remaining(target.gpu, profile);
    return result;
}

static bool empty(const struct sim_gpu *gpu)
{
    for (const struct sim_instance *instance = gpu->instances; instance < gpu->instances + SIM_INSTANCES; instance++)
        if (instance->used)
            return false;
    return true;
}

static nvmlReturn_t create(nvmlDevice_t device, unsigned id, const nvmlPlacement_t *wanted, nvmlGpuInstance_t *handle)
{
    struct target target;
    const struct sim_gi_profile *profile;
    if (!handle)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(device, id, true, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    struct sim_gpu *gpu = target.gpu;
    const struct sim_placement *place = NULL;
    for (unsigned i = 0; wanted && i < profile->placement_count; i++)
        if (profile->placements[i].start == wanted->start && profile->placements[i].size == wanted->size)
            place = &profile->placements[i];
    if (wanted && !place)
        return NVML_ERROR_INVALID_ARGUMENT;
    // The first one needs an idle GPU; later, whoever is on the GPU is on an instance.
    if (empty(gpu) && busy(target.gpu_index, SIM_NONE, SIM_NONE))
        return NVML_ERROR_IN_USE;
    if (!wanted)
        place = choose(gpu, profile);
    if (!place || !is_free(gpu, *place) || !allowed(gpu, profile))
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    unsigned gi = id_of(gpu, *place);
    gpu->instances[gi] = (struct sim_instance){.profile = (unsigned)(profile - gpu->profiles), .start = place->start,
                                               .size = place->size, .serial = ++sim->next_serial};
    gpu->instances[gi].used = 1; // last, for those who are killed in between
    sim_current->gi = gi;
    *handle = instance_handle(target.gpu_index, gi);
    return NVML_SUCCESS;
}

NVML(nvmlDeviceCreateGpuInstance, (nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance), (device, id, instance))
{
    return create(device, id, NULL, instance);
}

NVML(nvmlDeviceCreateGpuInstanceWithPlacement,
     (nvmlDevice_t device, unsigned id, const nvmlPlacement_t *placement, nvmlGpuInstance_t *instance), (device, id, placement, instance))
{
    return placement ? create(device, id, placement, instance) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML(nvmlGpuInstanceDestroy, (nvmlGpuInstance_t instance), (instance))
{
    struct target target = of_instance(instance);
    if (!target.gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    for (unsigned ci = 0; ci < SIM_COMPUTES; ci++)
        if (target.instance->compute[ci].used)
            return NVML_ERROR_IN_USE;
    if (busy(target.gpu_index, target.gi, SIM_NONE))
        return NVML_ERROR_IN_USE;
    target.instance->used = 0;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetGpuInstances, (nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *array, unsigned *count), (device, id, array, count))
{
    struct target target;
    const struct sim_gi_profile *profile;
    if (!array || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(device, id, true, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    *count = 0;
    for (unsigned gi = 0; gi < SIM_INSTANCES; gi++)
        if (target.gpu->instances[gi].used && &target.gpu->profiles[target.gpu->instances[gi].profile] == profile)
            array[(*count)++] = instance_handle(target.gpu_index, gi);
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetGpuInstanceById, (nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance), (device, id, instance))
{
    struct target target = gpu_device(device);
    sim_current->value = id;
    if (!target.gpu || !instance)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!mig_enabled(target.gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    if (id >= SIM_INSTANCES || !target.gpu->instances[id].used)
        return NVML_ERROR_NOT_FOUND;
    *instance = instance_handle(target.gpu_index, id);
    return NVML_SUCCESS;
}

NVML(nvmlGpuInstanceGetInfo, (nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info), (instance, info))
{
    struct target target = of_instance(instance);
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    *info = (nvmlGpuInstanceInfo_t){device_handle(target.gpu_index), target.gi, target.gpu->profiles[target.instance->profile].id,
                                    {target.instance->start, target.instance->size}};
    return NVML_SUCCESS;
}
