// Reads a plan (format: docs/engine-plan.md): header, tensors, then the operators one by one, each checked before the
// next is read. Whatever a plan's bytes hold, nothing outside them is touched and the answer is a plan that can be run,
// or a reason.
#include "plan.h"

#include "plan_reader.h"

namespace ntksap {
namespace {

constexpr char kMagic[] = "NTKSPLN1";
constexpr uint64_t kHeaderBytes = 64, kTensorBytes = 16, kBlobAlignment = 64;
constexpr uint32_t kVersion = 1;

struct Header {
  uint64_t tensors, inputs, outputs, ops, code_words, code_offset, blob_offset, blob_bytes;
};

Header read_header(const Bytes& bytes) {
  if (bytes.size() < kHeaderBytes)
    refuse("a plan begins with 64 bytes of header; got " + text(bytes.size()) + " bytes");
  const unsigned char* magic = bytes.range(0, 8, 1, "magic bytes", "the plan has");
  require(std::memcmp(magic, kMagic, 8) == 0, "not a plan of the engine: it does not begin with NTKSPLN1");
  if (bytes.u32(8) != kVersion)
    refuse("a plan of version " + text(bytes.u32(8)) + "; this library reads version " + text(kVersion));
  Header header{bytes.u32(12), bytes.u32(16), bytes.u32(20), bytes.u32(24),
                bytes.u32(28), bytes.u64(32), bytes.u64(40), bytes.u64(48)};
  require(bytes.u64(56) == 0, "the header's last eight bytes are not zero");
  return header;
}

// Where the tables end and the code may begin.
uint64_t tables_end(const Header& header) {
  return kHeaderBytes + header.tensors * kTensorBytes + (header.inputs + header.outputs) * 4;
}

void check_counts(const Header& header) {
  if (header.tensors > kMaxEntries) refuse(text(header.tensors) + " tensors; at most 65536 are allowed");
  if (header.ops > kMaxEntries) refuse(text(header.ops) + " operators; at most 65536 are allowed");
  require(header.inputs > 0, "the plan has no input");
  require(header.outputs > 0, "the plan has no output");
  if (header.inputs + header.ops != header.tensors)
    refuse(text(header.tensors) + " tensors, but " + text(header.inputs) + " inputs and " + text(header.ops) +
           " operators write them");
  require(header.outputs <= header.ops, "more outputs than operators");
}

void check_places(const Bytes& bytes, const Header& header) {
  if (header.code_offset < tables_end(header) || header.code_offset % 4 != 0)
    refuse("the code begins at byte " + text(header.code_offset) + "; wanted a multiple of 4 from " +
           text(tables_end(header)) + " on");
  bytes.range(header.code_offset, header.code_words, 4, "the words of the code", "the plan has");
  const uint64_t code_end = header.code_offset + header.code_words * 4;
  if (header.blob_offset < code_end || header.blob_offset % kBlobAlignment != 0)
    refuse("the weights begin at byte " + text(header.blob_offset) + "; wanted a multiple of 64 from " +
           text(code_end) + " on");
  bytes.range(header.blob_offset, header.blob_bytes, 1, "the weights", "the plan has");
  const uint64_t end = header.blob_offset + header.blob_bytes;
  if (end != bytes.size())
    refuse("the plan ends at byte " + text(end) + ", but " + text(bytes.size()) + " bytes were given");
}

void check_zeros(const Bytes& bytes, uint64_t begin, uint64_t end) {
  const unsigned char* gap = bytes.range(begin, end - begin, 1, "the bytes between the parts", "the plan has");
  for (uint64_t i = 0; i < end - begin; ++i)
    if (gap[i] != 0) refuse("byte " + text(begin + i) + " lies between two parts of the plan and is not zero");
}

TensorInfo read_tensor(const Bytes& bytes, uint64_t index) {
  const uint64_t at = kHeaderBytes + index * kTensorBytes;
  const TensorInfo tensor{bytes.u32(at), bytes.u32(at + 4), bytes.u32(at + 8), bytes.u32(at + 12)};
  const uint64_t c = tensor.channels, h = tensor.height, w = tensor.width;
  const bool sized =
      c >= 1 && h >= 1 && w >= 1 && c <= kMaxChannels && h <= kMaxSide && w <= kMaxSide && c * h * w <= kMaxElements;
  const std::string shape = text(c) + " x " + text(h) + " x " + text(w);
  if (!sized) refuse("tensor " + text(index) + " is " + shape + ", outside what a plan may hold");
  if (tensor.rank != 4 && tensor.rank != 2)
    refuse("tensor " + text(index) + " has rank " + text(tensor.rank) + "; wanted 4 or 2");
  if (tensor.rank == 2 && h * w != 1)
    refuse("tensor " + text(index) + " has rank 2 and is " + shape + "; wanted a plane of 1 x 1");
  return tensor;
}

// Follows who has been written, so that every tensor is written once and before it is read.
class Written {
 public:
  explicit Written(uint64_t tensors) : written_(tensors, false) {}

  void write(uint32_t id) {
    known(id);
    if (written_[id]) refuse("tensor " + text(id) + " is written twice");
    written_[id] = true;
  }

  void read(uint32_t id) const {
    known(id);
    if (!written_[id]) refuse("tensor " + text(id) + " is read before it is written");
  }

 private:
  void known(uint32_t id) const {
    if (id >= written_.size()) refuse("it names tensor " + text(id) + ", the plan has " + text(written_.size()));
  }

  std::vector<bool> written_;
};

Kind read_kind(uint32_t word) {
  if (word < uint32_t(Kind::Conv) || word > uint32_t(Kind::Flatten))
    refuse("its kind is " + text(word) + "; this library knows 1 to 8");
  return Kind(word);
}

Activation read_activation(Words& code) {
  const uint32_t act = code.take();
  if (act > uint32_t(Act::Elu)) refuse("its activation is " + text(act) + "; this library knows 0 to 9");
  Activation activation{Act(act)};
  activation.a = code.take_float();
  activation.b = code.take_float();
  return activation;
}

uint32_t take_within(Words& code, uint64_t low, uint64_t high, const char* what) {
  const uint32_t value = code.take();
  if (value < low || value > high)
    refuse(std::string("its ") + what + " is " + text(value) + "; wanted " + text(low) + " to " + text(high));
  return value;
}

Window read_window(Words& code) {
  Window window;
  window.kh = take_within(code, 1, kMaxKernel, "kernel's height");
  window.kw = take_within(code, 1, kMaxKernel, "kernel's width");
  window.sh = take_within(code, 1, kMaxStride, "stride down");
  window.sw = take_within(code, 1, kMaxStride, "stride across");
  window.dh = take_within(code, 1, kMaxDilation, "dilation down");
  window.dw = take_within(code, 1, kMaxDilation, "dilation across");
  return window;
}

void read_paddings(Words& code, Window& window, bool all_sides) {
  window.pad_top = take_within(code, 0, kMaxPadding, "padding above");
  window.pad_left = take_within(code, 0, kMaxPadding, "padding to the left");
  if (!all_sides) return;
  window.pad_bottom = take_within(code, 0, kMaxPadding, "padding below");
  window.pad_right = take_within(code, 0, kMaxPadding, "padding to the right");
}

PoolMode read_mode(Words& code, PoolMode last) { return PoolMode(take_within(code, 0, uint32_t(last), "mode")); }

uint32_t parameters_of(Kind kind) {
  switch (kind) {
    case Kind::Conv: return 18;
    case Kind::Pool: return 11;
    case Kind::GlobalPool: return 1;
    case Kind::Add:
    case Kind::Mul:
    case Kind::Act: return 3;
    case Kind::Concat:
    case Kind::Flatten: return 0;
  }
  return 0;
}

bool takes_inputs(Kind kind, uint64_t count) {
  switch (kind) {
    case Kind::Conv: return count == 1 || count == 2;
    case Kind::Add:
    case Kind::Mul: return count == 2;
    case Kind::Concat: return count >= 1;
    case Kind::Pool:
    case Kind::GlobalPool:
    case Kind::Act:
    case Kind::Flatten: return count == 1;
  }
  return false;
}

void read_parameters(Words& code, const Bytes& blob, const Plan& plan, Op& op) {
  switch (op.kind) {
    case Kind::Conv:
      op.window = read_window(code);
      read_paddings(code, op.window, false);
      op.activation = read_activation(code);
      check_shapes(plan, op);
      read_weights(code, blob, plan, op);
      return;
    case Kind::Pool:
      op.mode = read_mode(code, PoolMode::AveragePadded);
      op.window = read_window(code);
      read_paddings(code, op.window, true);
      break;
    case Kind::GlobalPool: op.mode = read_mode(code, PoolMode::AverageInside); break;
    case Kind::Add:
    case Kind::Mul:
    case Kind::Act: op.activation = read_activation(code); break;
    case Kind::Concat:
    case Kind::Flatten: break;
  }
  check_shapes(plan, op);
}

void read_operator(Words& code, const Bytes& blob, const Plan& plan, Written& written, Op& op) {
  const uint32_t inputs = code.take();
  if (!takes_inputs(op.kind, inputs)) refuse("it does not take " + text(inputs) + " inputs");
  if (inputs > code.left()) refuse("its " + text(inputs) + " inputs go on after the last word of the code");
  for (uint32_t i = 0; i < inputs; ++i) {
    op.inputs.push_back(code.take());
    written.read(op.inputs.back());
  }
  op.output = code.take();
  written.write(op.output);
  const uint32_t parameters = code.take();
  if (parameters != parameters_of(op.kind))
    refuse("it has " + text(parameters) + " parameters; wanted " + text(parameters_of(op.kind)));
  read_parameters(code, blob, plan, op);
}

void read_operators(const Bytes& bytes, const Header& header, Written& written, Plan& plan) {
  const Bytes blob(bytes.range(header.blob_offset, header.blob_bytes, 1, "the weights", "the plan has"),
                   header.blob_bytes);
  Words code(bytes, header.code_offset, header.code_words);
  for (uint64_t i = 0; i < header.ops; ++i) {
    std::string name = "operator " + text(i);
    try {
      Op op{};
      op.kind = read_kind(code.take());
      name += std::string(" (") + kind_name(op.kind) + ")";
      read_operator(code, blob, plan, written, op);
      plan.ops.push_back(std::move(op));
    } catch (const Refusal& refusal) {
      refuse(name + ": " + refusal.reason);
    }
  }
  if (code.left() != 0) refuse(text(code.left()) + " words of code follow the last operator");
}

void read_inputs(const Bytes& bytes, const Header& header, Written& written, Plan& plan) {
  const uint64_t at = kHeaderBytes + header.tensors * kTensorBytes;
  for (uint64_t i = 0; i < header.inputs; ++i) {
    plan.inputs.push_back(bytes.u32(at + 4 * i));
    written.write(plan.inputs.back());
  }
}

// The plan's outputs are distinct tensors that operators wrote: each is the caller's own memory, filled once.
void read_outputs(const Bytes& bytes, const Header& header, Written& written, Plan& plan) {
  const uint64_t at = kHeaderBytes + header.tensors * kTensorBytes + header.inputs * 4;
  Written given(header.tensors);
  for (const uint32_t input : plan.inputs) given.write(input);
  for (uint64_t i = 0; i < header.outputs; ++i) {
    const uint32_t id = bytes.u32(at + 4 * i);
    written.read(id);
    try {
      given.write(id);
    } catch (const Refusal&) {
      refuse("output " + text(i) + " is tensor " + text(id) + ", which is an input or another output as well");
    }
    plan.outputs.push_back(id);
  }
}

void parse(const Bytes& bytes, Plan& plan) {
  const Header header = read_header(bytes);
  check_counts(header);
  check_places(bytes, header);
  check_zeros(bytes, tables_end(header), header.code_offset);
  check_zeros(bytes, header.code_offset + 4 * header.code_words, header.blob_offset);
  for (uint64_t i = 0; i < header.tensors; ++i) plan.tensors.push_back(read_tensor(bytes, i));
  Written written(header.tensors);
  read_inputs(bytes, header, written, plan);
  read_operators(bytes, header, written, plan);
  read_outputs(bytes, header, written, plan);
}

}  // namespace

const char* kind_name(Kind kind) {
  static const char* const names[] = {"?", "conv", "pool", "global pool", "add", "mul", "concat", "act", "flatten"};
  return names[uint32_t(kind) <= uint32_t(Kind::Flatten) ? uint32_t(kind) : 0];
}

std::string parse_plan(const void* bytes, uint64_t size, Plan& plan) {
  plan = Plan{};
  if (bytes == nullptr && size > 0) return "no bytes were given";
  if (reinterpret_cast<uintptr_t>(bytes) % 4 != 0) return "a plan must begin at an address that is a multiple of 4";
  try {
    parse(Bytes(bytes, size), plan);
    return "";
  } catch (const Refusal& refusal) {
    plan = Plan{};
    return refusal.reason;
  }
}

}  // namespace ntksap
