// SPDX-License-Identifier: Apache-2.0
// Compute instances within a GPU instance. A profile's index is its id here. There is one engine profile: all engines shared.
#include "sim.h"

static const struct sim_gi_profile *parent(struct target target) { return &target.gpu->profiles[target.instance->profile]; }

// --- profiles -----------------------------------------------------------------------------------------------------------

static nvmlReturn_t find_profile(struct target target, unsigned index, unsigned engines, nvmlComputeInstanceProfileInfo_t *info)
{
    sim_current->value = index;
    if (!target.gpu || index >= SIM_CI_PROFILES || engines != 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_gi_profile *gi = parent(target);
    const struct sim_ci_profile *ci = &gi->compute[index];
    if (!ci->offered)
        return NVML_ERROR_NOT_SUPPORTED;
    *info = (nvmlComputeInstanceProfileInfo_t){index, ci->slices, ci->count, ci->multiprocessors, gi->copy_engines,
                                               gi->decoders, gi->encoders, gi->jpegs, gi->ofas};
    return NVML_SUCCESS;
}

NVML(nvmlGpuInstanceGetComputeInstanceProfileInfo,
     (nvmlGpuInstance_t instance, unsigned index, unsigned engines, nvmlComputeInstanceProfileInfo_t *info), (instance, index, engines, info))
{
    return info ? find_profile(of_instance(instance), index, engines, info) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML(nvmlGpuInstanceGetComputeInstanceProfileInfoV, (nvmlGpuInstance_t instance, unsigned index, unsigned engines, void *info),
     (instance, index, engines, info))
{
    struct target target = of_instance(instance);
    nvmlComputeInstanceProfileInfo_v2_t *v2 = info;
    nvmlComputeInstanceProfileInfo_v3_t *v3 = info;
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    bool third = v2->version == NVML_STRUCT_VERSION(nvmlComputeInstanceProfileInfo_v3_t, 3);
    if (!third && v2->version != NVML_STRUCT_VERSION(nvmlComputeInstanceProfileInfo_v2_t, 2))
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = find_profile(target, index, engines, &v2->v1);
    if (result != NVML_SUCCESS)
        return result;
    mig_name(parent(target), v2->v1.sliceCount, v2->name, sizeof v2->name);
    if (third)
        v3->capabilities = parent(target)->graphics ? 1 : 0;
    return NVML_SUCCESS;
}

// --- room ---------------------------------------------------------------------------------------------------------------

static bool is_free(const struct sim_instance *instance, struct sim_placement place)
{
    for (const struct sim_compute *other = instance->compute; other < instance->compute + SIM_COMPUTES; other++)
        if (other->used && overlaps(place.start, place.size, other->start, other->size))
            return false;
    return true;
}

static unsigned allowed(struct target target, unsigned index)
{
    unsigned left = parent(target)->compute[index].count;
    for (unsigned ci = 0; ci < SIM_COMPUTES && left; ci++)
        left -= target.instance->compute[ci].used && target.instance->compute[ci].profile == index;
    return left;
}

static nvmlReturn_t enter_profile(nvmlGpuInstance_t instance, unsigned id, struct target *target, const struct sim_ci_profile **profile)
{
    sim_current->value = id;
    *target = of_instance(instance);
    if (!target->gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    if (id >= SIM_CI_PROFILES)
        return NVML_ERROR_INVALID_ARGUMENT;
    *profile = &parent(*target)->compute[id];
    return (*profile)->offered ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

NVML(nvmlGpuInstanceGetComputeInstancePossiblePlacements, (nvmlGpuInstance_t instance, unsigned id, nvmlPlacement_t *array, unsigned *count),
     (instance, id, array, count))
{
    struct target target;
    const struct sim_ci_profile *profile;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(instance, id, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    for (unsigned i = 0; array && i < profile->placement_count; i++)
        array[i] = (nvmlPlacement_t){profile->placements[i].start, profile->placements[i].size};
    *count = profile->placement_count;
    return NVML_SUCCESS;
}

NVML(nvmlGpuInstanceGetComputeInstanceRemainingCapacity, (nvmlGpuInstance_t instance, unsigned id, unsigned *count), (instance, id, count))
{
    struct target target;
    const struct sim_ci_profile *profile;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(instance, id, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    unsigned places = 0, limit = allowed(target, id);
    for (unsigned i = 0; i < profile->placement_count; i++)
        places += is_free(target.instance, profile->placements[i]);
    *count = places < limit ? places : limit;
    return NVML_SUCCESS;
}

// --- making and destroying ----------------------------------------------------------------------------------------------

static unsigned places_left_beside(struct target target, struct sim_placement taken)
{
    unsigned left = 0;
    for (unsigned id = 0; id < SIM_CI_PROFILES; id++) {
        const struct sim_ci_profile *profile = &parent(target)->compute[id];
        for (unsigned i = 0; i < profile->placement_count; i++) {
            struct sim_placement place = profile->placements[i];
            left += is_free(target.instance, place) && !overlaps(place.start, place.size, taken.start, taken.size);
        }
    }
    return left;
}

// The driver's own choice. Ampere takes the lowest free place, as listings of real A100 show. From Hopper on compute instances
// are aligned, and the rule is that of NVIDIA's open kernel modules: what reduces the remaining capacity least.
static const struct sim_placement *choose(struct target target, const struct sim_ci_profile *profile)
{
    const struct sim_placement *best = NULL;
    unsigned most = 0;
    for (unsigned i = 0; i < profile->placement_count; i++) {
        const struct sim_placement *place = &profile->placements[i];
        if (!is_free(target.instance, *place))
            continue;
        unsigned left = 1 + (target.gpu->aligned_compute ? places_left_beside(target, *place) : 0);
        if (left > most) {
            most = left;
            best = place;
        }
    }
    return best;
}

static nvmlReturn_t create(nvmlGpuInstance_t instance, unsigned id, const nvmlPlacement_t *wanted, nvmlComputeInstance_t *handle)
{
    struct target target;
    const struct sim_ci_profile *profile;
    if (!handle)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(instance, id, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    const struct sim_placement *place = wanted ? NULL : choose(target, profile);
    for (unsigned i = 0; wanted && i < profile->placement_count; i++)
        if (profile->placements[i].start == wanted->start && profile->placements[i].size == wanted->size)
            place = &profile->placements[i];
    if (wanted && !place)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned ci = 0;
    while (ci < SIM_COMPUTES && target.instance->compute[ci].used)
        ci++;
    if (!place || !is_free(target.instance, *place) || ci == SIM_COMPUTES || !allowed(target, id))
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    target.instance->compute[ci] = (struct sim_compute){.profile = id, .start = place->start, .size = place->size, .serial = ++sim->next_serial};
    target.instance->compute[ci].used = 1; // last, for those who are killed in between
    sim_current->ci = ci;
    *handle = compute_handle(target.gpu_index, target.gi, ci);
    return NVML_SUCCESS;
}

NVML(nvmlGpuInstanceCreateComputeInstance, (nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *compute), (instance, id, compute))
{
    return create(instance, id, NULL, compute);
}

NVML(nvmlGpuInstanceCreateComputeInstanceWithPlacement,
     (nvmlGpuInstance_t instance, unsigned id, const nvmlPlacement_t *placement, nvmlComputeInstance_t *compute),
     (instance, id, placement, compute))
{
    return placement ? create(instance, id, placement, compute) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML(nvmlComputeInstanceDestroy, (nvmlComputeInstance_t compute), (compute))
{
    struct target target = of_compute(compute);
    if (!target.gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    if (busy(target.gpu_index, target.gi, target.ci))
        return NVML_ERROR_IN_USE;
    target.compute->used = 0;
    return NVML_SUCCESS;
}

// --- looking ------------------------------------------------------------------------------------------------------------

NVML(nvmlGpuInstanceGetComputeInstances, (nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *array, unsigned *count),
     (instance, id, array, count))
{
    struct target target;
    const struct sim_ci_profile *profile;
    if (!array || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = enter_profile(instance, id, &target, &profile);
    if (result != NVML_SUCCESS)
        return result;
    *count = 0;
    for (unsigned ci = 0; ci < SIM_COMPUTES; ci++)
        if (target.instance->compute[ci].used && target.instance->compute[ci].profile == id)
            array[(*count)++] = compute_handle(target.gpu_index, target.gi, ci);
    return NVML_SUCCESS;
}

NVML(nvmlGpuInstanceGetComputeInstanceById, (nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *compute), (instance, id, compute))
{
    struct target target = of_instance(instance);
    sim_current->value = id;
    if (!target.gpu || !compute)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    if (id >= SIM_COMPUTES || !target.instance->compute[id].used)
        return NVML_ERROR_NOT_FOUND;
    *compute = compute_handle(target.gpu_index, target.gi, id);
    return NVML_SUCCESS;
}

static nvmlComputeInstanceInfo_v1_t info_of(struct target target)
{
    return (nvmlComputeInstanceInfo_v1_t){device_handle(target.gpu_index), instance_handle(target.gpu_index, target.gi), target.ci,
                                          target.compute->profile};
}

NVML(nvmlComputeInstanceGetInfo_v2, (nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info), (compute, info))
{
    struct target target = of_compute(compute);
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    *info = (nvmlComputeInstanceInfo_t){info_of(target), {target.compute->start, target.compute->size}};
    return NVML_SUCCESS;
}

NVML(nvmlComputeInstanceGetInfo, (nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_v1_t *info), (compute, info))
{
    struct target target = of_compute(compute);
    if (!target.gpu || !info)
        return NVML_ERROR_INVALID_ARGUMENT;
    *info = info_of(target);
    return NVML_SUCCESS;
}
