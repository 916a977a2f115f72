#include "mode.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "tune_cache.h"

namespace ntksap {

namespace {

constexpr size_t kNowhere = size_t(-1);

// Tasks in even shares, one for each lane: neighbours in a plane stay with one thread, and so in one core's cache from
// layer to layer. A lane that is done takes from the others' shares.
struct Shares {
  struct alignas(64) Share {
    std::atomic<size_t> next{0};
    size_t end = 0;
    std::atomic<bool> taken{false};
  };
  Share* shares;
  size_t lanes;
  void (*task)(void*, size_t, size_t);
  void* user;
  std::atomic<bool> failed{false};
  std::exception_ptr failure{};  // the first: whoever owns the threads may not see an exception
};

thread_local size_t usual_lane = 0;  // of this thread, so that it comes back to its share

// The share that this thread had last time, or the next one that nobody works on.
size_t take_share(Shares& all) {
  for (size_t i = 0; i < all.lanes; ++i) {
    const size_t lane = (usual_lane + i) % all.lanes;
    if (!all.shares[lane].taken.exchange(true)) return usual_lane = lane;
  }
  return all.lanes;
}

void work_through(Shares& all) {
  const size_t mine = take_share(all);
  if (mine == all.lanes) return;
  for (size_t i = 0; i < all.lanes; ++i) {
    Shares::Share& share = all.shares[(mine + i) % all.lanes];
    for (size_t t = share.next++; t < share.end; t = share.next++) all.task(all.user, t, mine);
  }
}

void work(void* shared, size_t) {
  Shares& all = *static_cast<Shares*>(shared);
  try {
    work_through(all);
  } catch (...) {
    if (!all.failed.exchange(true)) all.failure = std::current_exception();
  }
}

// A function object on every task.
template <class With>
void for_tasks(Parallel& parallel, size_t count, With with) {
  run_tasks(parallel, count, [](void* user, size_t i, size_t lane) { (*static_cast<With*>(user))(i, lane); }, &with);
}

// Channels dealt out in chunks: several per thread, so that a slow thread takes fewer.
struct Chunks {
  size_t count, size, channels;
  Chunks(size_t all, size_t threads) : channels(all) {
    const size_t wanted = threads == 1 ? 1 : std::min(all, threads * 4);
    size = (all + wanted - 1) / wanted;
    count = (all + size - 1) / size;
  }
  size_t begin(size_t i) const { return i * size; }
  size_t end(size_t i) const { return std::min(channels, (i + 1) * size); }
};

}  // namespace

void run_tasks(Parallel& parallel, size_t count, void (*task)(void*, size_t, size_t), void* user) {
  if (parallel.lanes == 1 || count == 1) {
    for (size_t i = 0; i < count; ++i) task(user, i, 0);
    return;
  }
  const size_t lanes = std::min(parallel.lanes, count);
  std::vector<Shares::Share> shares(lanes);
  for (size_t i = 0; i < lanes; ++i) {
    shares[i].next = count * i / lanes;
    shares[i].end = count * (i + 1) / lanes;
  }
  Shares all{shares.data(), lanes, task, user};
  parallel.run(lanes, work, &all);
  if (all.failure) std::rethrow_exception(all.failure);
}

Mode::Mode(const Plan& plan, const Kernels& kernels, int lanes) : plan_(plan), kernels_(kernels) {
  const Gaps gaps(plan);
  const size_t ops = plan.ops.size();
  for (const TensorInfo& tensor : plan.tensors) layouts_.push_back(tensor_layout(tensor, gaps, lanes));
  written_.assign(plan.tensors.size(), 0);
  read_.assign(plan.tensors.size(), 0);
  for (size_t i = 0; i < ops; ++i) {
    written_[plan.ops[i].output] = i + 1;
    for (const uint32_t id : plan.ops[i].inputs) read_[id] = i + 1;
  }
  for (const uint32_t id : plan.outputs) read_[id] = ops + 1;
  place_tensors();
  layers_.resize(ops);
  prepared_.assign(ops, 0);
  copies_.assign(ops, kNowhere);
  seconds_.assign(ops, 0);
  for (size_t i = 0; i < ops; ++i) {
    const Op& op = plan.ops[i];
    if (op.kind != Kind::Conv) continue;
    const uint32_t in = op.inputs[0], out = op.output;
    layers_[i] = std::make_unique<ConvLayer>(op, plan.tensors[in], plan.tensors[out], layouts_[in], layouts_[out],
                                             *kernels.conv);
    if (layers_[i]->geometry().reading == Reading::Copied)
      copies_[i] = buffers_.add(layers_[i]->geometry().source, i + 1, i + 1);
  }
  buffers_.place();
}

// Whether an operator may write over this input: it ends here, has the output's layout, and is read only where it is
// written.
bool Mode::in_place(size_t op, uint32_t input) const {
  const Op& o = plan_.ops[op];
  const TensorInfo &in = plan_.tensors[input], &out = plan_.tensors[o.output];
  const bool alike = in.channels == out.channels && in.height == out.height && in.width == out.width;
  return alike && read_[input] == op + 1 && std::count(o.inputs.begin(), o.inputs.end(), input) == 1;
}

// A buffer for each tensor; what is added to a convolution, and what an activation works on, gives its buffer on.
void Mode::place_tensors() {
  const size_t none = plan_.tensors.size();
  std::vector<size_t> heir(none, none);
  for (size_t i = 0; i < plan_.ops.size(); ++i) {
    const Op& o = plan_.ops[i];
    const bool adds = o.kind == Kind::Conv && o.inputs.size() > 1;
    if (!adds && o.kind != Kind::Add && o.kind != Kind::Act) continue;
    const uint32_t input = adds ? o.inputs[1] : o.inputs[0];
    if (in_place(i, input)) heir[input] = o.output;
  }
  std::vector<bool> inherits(none, false);
  for (size_t id = 0; id < none; ++id)
    if (heir[id] != none) inherits[heir[id]] = true;
  buffer_of_.assign(none, 0);
  for (size_t id = 0; id < none; ++id) {
    if (inherits[id]) continue;
    size_t last = id;
    while (heir[last] != none) last = heir[last];
    const size_t buffer = buffers_.add(layouts_[id], written_[id], std::max(read_[last], written_[last]));
    for (size_t t = id; t != none; t = heir[t]) buffer_of_[t] = buffer;
  }
}

void Mode::need_contexts(size_t count) {
  while (contexts_.size() < count) {
    auto context = std::make_unique<Context>();
    context->arena.reserve(buffers_.floats());
    contexts_.push_back(std::move(context));
  }
}

void Mode::prepare(size_t begin, size_t end, size_t threads) {
  need_contexts(1);
  for (size_t i = begin; i < end; ++i)
    if (layers_[i] && prepared_[i] != threads) prepare_layer(i, threads);
  save_deals();
  for (auto& context : contexts_) {
    if (context->scratch.size() < threads) context->scratch.resize(threads);
  }
}

void Mode::prepare_layer(size_t op, size_t threads) {
  ConvLayer& layer = *layers_[op];
  if (contexts_[0]->scratch.empty()) contexts_[0]->scratch.resize(1);
  const Deal deal =
      best_deal(layer, *kernels_.conv, conv_buffers(op, *contexts_[0]), contexts_[0]->scratch[0], threads);
  layer.prepare(deal.choice, deal.parts, deal.multiple);
  layer.settle();
  prepared_[op] = threads;
}

ConvBuffers Mode::conv_buffers(size_t op, Context& context) {
  const Op& o = plan_.ops[op];
  const float* source =
      copies_[op] == kNowhere ? at(context, o.inputs[0]) : context.arena.data() + buffers_.offset(copies_[op]);
  return {source, o.inputs.size() > 1 ? at(context, o.inputs[1]) : nullptr, at(context, o.output)};
}

void Mode::load(uint32_t tensor, const float* src, int64_t first, int64_t images, size_t context, Parallel& parallel) {
  const int64_t stride = image_floats(plan_.tensors[tensor]);
  const Chunks chunks(plan_.tensors[tensor].channels, parallel.lanes);
  float* to = at(*contexts_[context], tensor);
  for_tasks(parallel, chunks.count, [&](size_t i, size_t) {
    kernels_.aux->load(src + first * stride, stride, int(images), to, layouts_[tensor], int(chunks.begin(i)),
                       int(chunks.end(i)));
  });
}

void Mode::store(uint32_t tensor, float* dst, int64_t first, int64_t images, size_t context, Parallel& parallel) {
  const int64_t stride = image_floats(plan_.tensors[tensor]);
  const Chunks chunks(plan_.tensors[tensor].channels, parallel.lanes);
  const float* from = at(*contexts_[context], tensor);
  for_tasks(parallel, chunks.count, [&](size_t i, size_t) {
    kernels_.aux->store(from, layouts_[tensor], dst + first * stride, stride, int(images), int(chunks.begin(i)),
                        int(chunks.end(i)));
  });
}

void Mode::run(size_t begin, size_t end, size_t context, Parallel& parallel) {
  using Clock = std::chrono::steady_clock;
  Context& c = *contexts_[context];
  if (c.scratch.size() < parallel.lanes) c.scratch.resize(parallel.lanes);
  Clock::time_point before = Clock::now();
  for (size_t i = begin; i < end; ++i) {
    run_op(i, c, parallel);
    const Clock::time_point now = Clock::now();
    if (context == 0) seconds_[i] = std::chrono::duration<double>(now - before).count();
    before = now;
  }
}

void Mode::run_op(size_t op, Context& context, Parallel& parallel) {
  const Op& o = plan_.ops[op];
  if (o.kind == Kind::Conv) return run_conv(op, context, parallel);
  const uint32_t walked = o.kind == Kind::Flatten || o.kind == Kind::Concat ? o.inputs[0] : o.output;
  const Chunks chunks(o.kind == Kind::Concat ? o.inputs.size() : plan_.tensors[walked].channels, parallel.lanes);
  for_tasks(parallel, chunks.count, [&](size_t i, size_t) { run_aux(o, context, chunks.begin(i), chunks.end(i)); });
}

void Mode::run_conv(size_t op, Context& context, Parallel& parallel) {
  const ConvLayer& layer = *layers_[op];
  if (copies_[op] != kNowhere) run_split(op, context, parallel);
  for (size_t i = 0; i < parallel.lanes; ++i) layer.reserve(context.scratch[i]);
  const ConvBuffers buffers = conv_buffers(op, context);
  for_tasks(parallel, layer.tasks(), [&](size_t i, size_t lane) { layer.run(i, buffers, context.scratch[lane]); });
}

void Mode::run_split(size_t op, Context& context, Parallel& parallel) {
  const ConvGeometry& g = layers_[op]->geometry();
  const uint32_t in = plan_.ops[op].inputs[0];
  const float* src = at(context, in);
  float* dst = context.arena.data() + buffers_.offset(copies_[op]);
  const Chunks chunks(plan_.tensors[in].channels, parallel.lanes);
  const Phases phases{g.split.sh, g.split.sw, uint32_t(g.split.phases.size()), g.split.phases.data()};
  for_tasks(parallel, chunks.count, [&](size_t i, size_t) {
    for (size_t c = chunks.begin(i); c < chunks.end(i); ++c)
      kernels_.conv->split(src + int64_t(c) * layouts_[in].stride, layouts_[in],
                           dst + int64_t(c * phases.count) * g.source.stride, g.source, phases);
  });
}

// One operator beside the convolutions, for channels [c0, c1) of what it walks; a concatenation walks its inputs.
void Mode::run_aux(const Op& op, Context& context, size_t c0, size_t c1) {
  const AuxKernels& k = *kernels_.aux;
  const uint32_t a = op.inputs[0], b = op.inputs.size() > 1 ? op.inputs[1] : a;
  const Layout &la = layouts_[a], &lb = layouts_[b], &to = layouts_[op.output];
  float* dst = at(context, op.output);
  const float *x = at(context, a), *y = at(context, b);
  const int begin = int(c0), end = int(c1);
  switch (op.kind) {
    case Kind::Conv: return;
    case Kind::Pool: return k.pool(x, la, dst, to, op.window, op.mode, begin, end);
    case Kind::GlobalPool: return k.global_pool(x, la, dst, to, op.mode, begin, end);
    case Kind::Add: return k.add(x, la, y, lb, dst, to, op.activation, begin, end);
    case Kind::Mul: return k.multiply(x, la, y, lb, dst, to, op.activation, begin, end);
    case Kind::Act: return k.activate(x, la, dst, to, op.activation, begin, end);
    case Kind::Flatten: return k.flatten(x, la, dst, to, begin, end);
    case Kind::Concat: break;
  }
  for (size_t i = c0; i < c1; ++i) {
    int channel = 0;
    for (size_t j = 0; j < i; ++j) channel += layouts_[op.inputs[j]].channels;
    const Layout& from = layouts_[op.inputs[i]];
    k.copy(at(context, op.inputs[i]), from, dst, to, channel, 0, from.channels);
  }
}

}  // namespace ntksap
