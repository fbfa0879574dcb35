// Greedy generation by an artefact's model.so in TVM's C++ runtime alone: token ids in and out.
//
//   generate MODEL.so TENSORS COUNT TOKEN...
//
// TENSORS has a line for each cache and weight, in the order of the compiled function:
// "dtype file offset dimensions"; the file "-" means zeros.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/runtime/tensor.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

using tvm::ffi::Array;
using tvm::ffi::Function;
using tvm::ffi::Module;
using tvm::runtime::Tensor;

static Tensor Empty(const std::vector<int64_t>& shape, const std::string& dtype) {
  return Tensor::Empty(tvm::ffi::Shape(shape.begin(), shape.end()),
                       tvm::ffi::StringToDLDataType(dtype), DLDevice{kDLCPU, 0});
}

template <typename T>
static Tensor Of(const std::vector<T>& values, const std::vector<int64_t>& shape, const char* dtype) {
  Tensor made = Empty(shape, dtype);
  std::memcpy(made->data, values.data(), values.size() * sizeof(T));
  return made;
}

template <typename T>
static Tensor Of(const std::vector<T>& values, const char* dtype) {
  return Of(values, {static_cast<int64_t>(values.size())}, dtype);
}

static Array<Tensor> ReadTensors(const char* path) {
  Array<Tensor> tensors;
  std::ifstream list(path);
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::string dtype, file;
    int64_t offset, dim;
    words >> dtype >> file >> offset;
    std::vector<int64_t> shape;
    while (words >> dim) shape.push_back(dim);
    Tensor tensor = Empty(shape, dtype);
    const size_t bytes = tvm::ffi::GetDataSize(*tensor.operator->());
    if (file == "-") {
      std::memset(tensor->data, 0, bytes);
    } else {
      std::ifstream weights(file, std::ios::binary);
      weights.seekg(offset);
      weights.read(static_cast<char*>(tensor->data), bytes);
      if (!weights) throw std::runtime_error("cannot read " + file);
    }
    tensors.push_back(tensor);
  }
  return tensors;
}

int main(int argc, char** argv) {
  Module machine = Module::LoadFromFile(argv[1])
                       ->GetFunction("vm_load_executable")
                       .value()()
                       .cast<Module>();
  const int kPooled = 2;
  machine->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooled);
  Function forward = machine->GetFunction("forward").value();
  Function sample = machine->GetFunction("sample").value();
  const Array<Tensor> params = ReadTensors(argv[2]);
  const int32_t pages = static_cast<int32_t>(params[0]->shape[0]);
  std::vector<int32_t> table;
  for (int32_t page = 0; page < pages; ++page) table.push_back(page);
  std::vector<int64_t> tokens;
  for (int i = 4; i < argc; ++i) tokens.push_back(std::stoll(argv[i]));

  int64_t length = 0;
  for (int made = 0; made < std::stoi(argv[3]); ++made) {
    const int32_t count = static_cast<int32_t>(tokens.size());
    std::vector<int64_t> positions;
    std::vector<int32_t> slots;  // page p holds positions 16 p to 16 p + 15
    for (int32_t i = 0; i < count; ++i) {
      positions.push_back(length + i);
      slots.push_back(static_cast<int32_t>(length) + i);
    }
    length += count;
    Tensor logits =
        forward(Of(tokens, "int64"), Of(positions, "int64"), Of(slots, "int32"),
                Of(table, {1, pages}, "int32"), Of(std::vector<int32_t>{0, count}, "int32"),
                Of(std::vector<int32_t>{static_cast<int32_t>(length)}, "int32"),
                Of(std::vector<int32_t>{count - 1}, "int32"), params)
            .cast<Tensor>();
    const std::vector<float> zero{0.0f}, one{1.0f};
    Tensor drawn = sample(logits, Of(zero, "float32"), Of(one, "float32"),
                          Of(std::vector<int32_t>{0}, "int32"), Of(zero, "float32"))
                       .cast<Tensor>();
    tokens = {static_cast<const int32_t*>(drawn->data)[0]};
    std::cout << tokens[0] << std::endl;
  }
  return 0;
}
