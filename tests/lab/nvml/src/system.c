// SPDX-License-Identifier: Apache-2.0
// Starting, stopping, versions, error texts.
#include <stdio.h>

#include "sim.h"

static nvmlReturn_t init(enum function function)
{
    nvmlReturn_t result = sim_attach();
    if (result != NVML_SUCCESS)
        return result;
    result = sim_leave(sim_enter(function));
    if (result != NVML_SUCCESS)
        sim_detach();
    return result;
}

EXPORT nvmlReturn_t nvmlInit(void);
EXPORT nvmlReturn_t nvmlInit(void) { return init(F_nvmlInit); }
EXPORT nvmlReturn_t nvmlInit_v2(void);
EXPORT nvmlReturn_t nvmlInit_v2(void) { return init(F_nvmlInit_v2); }
EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags);
EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags; // "no GPUs is fine" and "do not attach" make no difference here
    return init(F_nvmlInitWithFlags);
}

EXPORT nvmlReturn_t nvmlShutdown(void);
EXPORT nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t result = sim_leave(sim_enter(F_nvmlShutdown));
    return result == NVML_SUCCESS ? sim_detach() : result;
}

NVML(nvmlSystemGetDriverVersion, (char *text, unsigned size), (text, size)) { return answer_text(sim->driver, text, size); }
NVML(nvmlSystemGetNVMLVersion, (char *text, unsigned size), (text, size)) { return answer_text(sim->nvml, text, size); }

NVML(nvmlSystemGetCudaDriverVersion, (int *version), (version))
{
    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    *version = (int)sim->cuda;
    return NVML_SUCCESS;
}
NVML_AS(nvmlSystemGetCudaDriverVersion_v2, nvmlSystemGetCudaDriverVersion, (int *version), (version));

NVML(nvmlSystemGetProcessName, (unsigned pid, char *name, unsigned size), (pid, name, size))
{
    char path[32], text[1024] = "";
    if (!name || !size)
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *command = fopen(path, "re");
    if (!command)
        return NVML_ERROR_NOT_FOUND;
    text[fread(text, 1, sizeof text - 1, command)] = 0;
    fclose(command);
    copy_text(name, text, size);
    return NVML_SUCCESS;
}

// Some of the texts of NVML; programs print them, and pynvml asks for those that it does not know itself.
static const struct {
    int code;
    const char *text;
} texts[] = {
    {0, "Success"},
    {1, "Uninitialized"},
    {2, "Invalid Argument"},
    {3, "Not Supported"},
    {4, "Insufficient Permissions"},
    {5, "Already Initialized"},
    {6, "Not Found"},
    {7, "Insufficient Size"},
    {8, "Insufficient External Power"},
    {9, "Driver Not Loaded"},
    {10, "Timeout"},
    {11, "Interrupt Request Issue"},
    {12, "NVML Shared Library Not Found"},
    {13, "Function Not Found"},
    {14, "Corrupted infoROM"},
    {15, "GPU is lost"},
    {16, "GPU requires reset"},
    {17, "GPU access blocked by the operating system"},
    {18, "Driver/library version mismatch"},
    {19, "In use by another client"},
    {20, "Insufficient memory"},
    {21, "No data"},
    {22, "The requested vgpu operation is not available on target device, because ECC is enabled"},
    {23, "Insufficient Resources"},
    {24, "The requested frequency is not supported"},
    {25, "Argument version mismatch"},
    {26, "Deprecated"},
    {27, "The system is not ready for the request"},
    {28, "No GPUs were found"},
    {29, "Invalid state"},
    {30, "Reset type not supported"},
    {999, "Unknown Error"},
};

EXPORT const char *nvmlErrorString(nvmlReturn_t result);
EXPORT const char *nvmlErrorString(nvmlReturn_t result)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].code == (int)result)
            return texts[i].text;
    return "Unknown Error";
}
