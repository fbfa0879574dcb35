/* Lets TVM's virtual machine call a printed function: arguments and errors by TVM's own C API. */
#ifndef VACC_TVM_H
#define VACC_TVM_H

#include <tvm/ffi/c_api.h>

#include "vacc.h"

/* Raises an error in the caller; returns what a function that TVM calls returns then. */
static inline int vacc_tvm_raise(const char *message) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", message);
    return -1;
}

/* Returns the tensor behind an argument; NULL where it is none on the CPU, or has gaps. */
static inline DLTensor *vacc_tvm_tensor(const TVMFFIAny *argument) {
    DLTensor *tensor = NULL;
    if (argument->type_index == kTVMFFIDLTensorPtr) {
        tensor = (DLTensor *)argument->v_ptr;
    } else if (argument->type_index == kTVMFFITensor) {
        tensor = (DLTensor *)(void *)((char *)argument->v_obj + sizeof(TVMFFIObject));
    }
    if (tensor == NULL || tensor->device.device_type != kDLCPU) {
        return NULL;
    }
    int64_t expected = 1;
    for (int axis = tensor->ndim - 1; axis >= 0 && tensor->strides != NULL; --axis) {
        if (tensor->shape[axis] != 1 && tensor->strides[axis] != expected) {
            return NULL;
        }
        expected *= tensor->shape[axis];
    }
    return tensor;
}

/* Fills `tensors` with all `expected` arguments; false where they are not such tensors. */
static inline bool vacc_tvm_tensors(
    const TVMFFIAny *arguments, int32_t count, DLTensor **tensors, int32_t expected) {
    for (int32_t i = 0; i < expected; ++i) {
        tensors[i] = i < count ? vacc_tvm_tensor(&arguments[i]) : NULL;
        if (tensors[i] == NULL) {
            return false;
        }
    }
    return count == expected;
}

static inline void *vacc_tvm_data(const DLTensor *tensor) {
    return (char *)tensor->data + tensor->byte_offset;
}

/* Calls `function` with a workspace of `bytes`; returns what a function that TVM calls returns. */
static inline int vacc_tvm_call(
    int (*function)(const void *arguments, void *workspace), const void *arguments, size_t bytes,
    TVMFFIAny *result) {
    char *const memory = (char *)vacc_allocate(bytes + 64);
    if (memory == NULL) {
        return vacc_tvm_raise(vacc_status_text(VACC_NO_MEMORY));
    }
    const int status = function(arguments, memory + (64 - (uintptr_t)memory % 64) % 64);
    vacc_release(memory);
    if (status != VACC_OK) {
        return vacc_tvm_raise(vacc_status_text(status));
    }
    memset(result, 0, sizeof *result);
    result->type_index = kTVMFFINone;
    return 0;
}

#endif
