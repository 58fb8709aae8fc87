// The next id, chosen from the last row of logits by one workgroup: penalty, top-k, top-p, min-p, draw; see sampling.ts.
//
// Nothing is sorted. Each choice (the last candidate of top-k, the last of top-p, the one that is drawn) is the first one, from the
// likeliest, at which a sum of whole numbers reaches a target. It is found two bits of the order at a time: the sums over the four
// groups tell in which one it lies, and only that group is looked at again. Each lane has candidates of its own, kept and narrowed
// in place: those at lane + j · LANES.
override LANES: u32;

const NONE = 0xffffffffu;
const LARGEST = 0x1.fffffep+127f;
const NEGATIVE_INFINITY = 0xff800000u;
const LOG2E = 1.44269502162933349609375f;

// What a choice adds up.
const COUNT = 0u;
const PLAIN = 1u; // weights at temperature 1
const DRAWN = 2u; // weights at the draw's temperature

struct Step { columns: u32 }

struct Sampling {
  penalty: f32,
  relief: f32,
  window: u32,
  top_k: u32,
  top_p: u32,
  farthest: u32,
  scale: f32,
  greedy: u32,
  seed: vec2<u32>,
}

@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read> sampling: Sampling;
@group(0) @binding(4) var<storage, read> history: array<u32>;
@group(0) @binding(5) var<storage, read_write> index: array<u32>;
// Candidates as id and bits of the logit: first those that are kept, then those among which a choice is narrowed down.
@group(0) @binding(6) var<storage, read_write> list: array<vec2<u32>>;

// Sums of 64 bits: low words and high words, of the groups up to each of four.
var<workgroup> lows: array<vec4<u32>, LANES>;
var<workgroup> highs: array<vec4<u32>, LANES>;
var<workgroup> values: array<f32, LANES>;
var<workgroup> lowest_values: array<f32, LANES>;
var<workgroup> places: array<u32, LANES>;
var<workgroup> found: vec3<u32>;

var<private> lane: u32;
var<private> best: f32;
// Turns distances from the best logit into numbers of up to 32 bits; a power of two.
var<private> spread: f32;
// How many candidates of its own a lane keeps.
var<private> kept: u32;

fn multiply(a: u32, b: u32) -> vec2<u32> { // low and high word
  let low = (a & 0xffffu) * (b & 0xffffu);
  let left = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let right = (a & 0xffffu) * (b >> 16u) + (left & 0xffffu);
  return vec2(a * b, (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u));
}

// floor(sum · share / 2³²)
fn share_of(sum: vec2<u32>, share: u32) -> vec2<u32> {
  let high = multiply(sum.y, share);
  let low = high.x + multiply(sum.x, share).y;
  return vec2(low, high.y + u32(low < high.x));
}

fn less(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }

fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2(a.x - b.x, a.y - b.y - u32(a.x < b.x));
}

fn exponent_of(bits: u32, scale: f32) -> u32 {
  let halvings = (best - bitcast<f32>(bits)) * scale;
  let near = bits != NEGATIVE_INFINITY && halvings < 32.0;
  return select(NONE, u32(select(0.0, halvings, near) * 0x1p+27f), near);
}

// floor(a · t / 2¹⁶) for t below 2¹⁶
fn scaled(a: u32, t: u32) -> u32 { return (a >> 16u) * t + (((a & 0xffffu) * t) >> 16u); }

fn weight_of(exponent: u32) -> u32 {
  let t = (exponent >> 11u) & 0xffffu;
  let rest = ((exponent & 0x7ffu) * 45426u) >> 16u;
  var sum = 19769301u - scaled(2029165u, t);
  sum = 118750173u - scaled(sum, t);
  sum = 515782929u - scaled(sum, t);
  sum = 1488514807u - scaled(sum, t);
  sum = 0x80000000u - scaled(sum, t);
  sum -= ((sum >> 11u) * rest) >> 16u;
  return select(sum >> (exponent >> 27u), 0u, exponent == NONE);
}

fn measure(bits: u32, what: u32) -> u32 {
  if (what == COUNT) { return 1u; }
  let drawn = what == DRAWN;
  if (drawn && sampling.farthest != NONE && exponent_of(bits, LOG2E) > sampling.farthest) { return 0u; }
  return weight_of(exponent_of(bits, select(LOG2E, sampling.scale, drawn)));
}

// The place in the order, 96 bits from the likeliest on: the distance from the best logit, which spreads well; the logit itself, where
// distances round alike; the id.
fn order(candidate: vec2<u32>, word: u32) -> u32 {
  if (word == 2u) { return candidate.x; }
  let bits = candidate.y;
  if (word == 1u) {
    if (bits >> 31u == 1u && bits != 0x80000000u) { return bits; }
    return 0x7fffffffu - (bits & 0x7fffffffu);
  }
  let distance = (best - bitcast<f32>(bits)) * spread;
  let near = bits != NEGATIVE_INFINITY && distance < 0x1.fffffep+31f;
  return select(NONE, u32(select(0.0, distance, near)), near);
}

fn digit_of(candidate: vec2<u32>, level: u32) -> u32 {
  return (order(candidate, level / 16u) >> (30u - level % 16u * 2u)) & 3u;
}

// The first candidate at which the sum reaches an amount of candidates, or a share of the whole sum, or exceeds that.
// Its id and bits, and whether there is one: the sum may be 0.
fn choose(what: u32, amount: u32) -> vec3<u32> {
  if (lane == 0u) { found = vec3(0u); }
  var target_ = vec2(amount, 0u);
  var sum = vec2(NONE);
  var first = 0u;
  var count = kept;
  // At the latest the last of 48 groups of two bits leaves a single one.
  for (var level = 0u; level <= 48u; level++) {
    var low = vec4(0u);
    var high = vec4(0u);
    var counted = 0u;
    var last = vec2(0u);
    for (var j = 0u; j < count; j++) {
      let candidate = list[first + lane + j * LANES];
      let part = measure(candidate.y, what);
      if (part == 0u) { continue; }
      let parts = select(vec4(0u), vec4(part), vec4(digit_of(candidate, level)) <= vec4(0u, 1u, 2u, 3u));
      low += parts;
      high += vec4<u32>(low < parts);
      counted++;
      last = candidate;
    }
    if (counted == 1u && all(vec2(low.w, high.w) == sum)) { found = vec3(last, 1u); }
    lows[lane] = low;
    highs[lane] = high;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        let others = lows[lane + half];
        let sums = lows[lane] + others;
        lows[lane] = sums;
        highs[lane] += highs[lane + half] + vec4<u32>(sums < others);
      }
    }
    low = workgroupUniformLoad(&lows[0]);
    high = workgroupUniformLoad(&highs[0]);
    if (workgroupUniformLoad(&found).z == 1u) { break; }
    if (level == 0u && what != COUNT) {
      let total = vec2(low.w, high.w);
      if (all(total == vec2(0u))) { break; }
      target_ = share_of(total, amount);
      if (what == DRAWN || all(target_ == vec2(0u))) {
        target_ = vec2(target_.x + 1u, target_.y + u32(target_.x == NONE));
      }
    }
    // The group in which the sum reaches it.
    var digit = 0u;
    var before = vec2(0u);
    sum = vec2(low.x, high.x);
    if (less(sum, target_)) { digit = 1u; before = sum; sum = vec2(low.y, high.y); }
    if (less(sum, target_)) { digit = 2u; before = sum; sum = vec2(low.z, high.z); }
    if (less(sum, target_)) { digit = 3u; before = sum; sum = vec2(low.w, high.w); }
    target_ = minus(target_, before);
    sum = minus(sum, before);
    var left = 0u;
    for (var j = 0u; j < count; j++) {
      let candidate = list[first + lane + j * LANES];
      if (digit_of(candidate, level) != digit) { continue; }
      list[step.columns + lane + left * LANES] = candidate;
      left++;
    }
    first = step.columns;
    count = left;
  }
  return workgroupUniformLoad(&found);
}

// Forgets the candidates behind the last one.
fn keep(last: vec3<u32>) {
  let logit = bitcast<f32>(last.y);
  var left = 0u;
  for (var j = 0u; j < kept; j++) {
    let candidate = list[lane + j * LANES];
    let other = bitcast<f32>(candidate.y);
    if (other < logit || (other == logit && candidate.x > last.x)) { continue; }
    list[lane + left * LANES] = candidate;
    left++;
  }
  kept = left;
}

// Threefry-2x32, as in random.ts: 24 bits of the first word, as a share in units of 2⁻³².
fn random_share(length: u32) -> u32 {
  // The three keys in turn.
  var key = vec3(sampling.seed, 0x1bd11bdau ^ sampling.seed.x ^ sampling.seed.y);
  var a = length + key.x;
  var b = key.y;
  for (var four = 0u; four < 5u; four++) {
    let turns = select(vec4(13u, 15u, 26u, 6u), vec4(17u, 29u, 16u, 24u), four % 2u == 1u);
    a += b; b = ((b << turns.x) | (b >> (32u - turns.x))) ^ a;
    a += b; b = ((b << turns.y) | (b >> (32u - turns.y))) ^ a;
    a += b; b = ((b << turns.z) | (b >> (32u - turns.z))) ^ a;
    a += b; b = ((b << turns.w) | (b >> (32u - turns.w))) ^ a;
    key = key.yzx;
    a += key.x;
    b += key.y + four + 1u;
  }
  return a & 0xffffff00u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) own: u32) {
  lane = own;
  let base = (pass_.rows - 1u) * step.columns;
  for (var i = lane; i < step.columns; i += LANES) { list[i] = vec2(i, x[base + i]); }
  let length = pass_.start + pass_.tokens;
  if (sampling.penalty != 1.0) {
    for (var i = length - min(length, sampling.window); i < length; i++) {
      let id = history[i];
      if (id % LANES != lane || id >= step.columns) { continue; }
      // From the logits that came in: an id that occurs twice pays once.
      let logit = bitcast<f32>(x[base + id]);
      list[id].y = bitcast<u32>(logit * select(sampling.penalty, sampling.relief, logit > 0.0));
    }
  }

  // The largest logit, as in argmax.wgsl, and the smallest one that is finite.
  var value = -LARGEST;
  var lowest = LARGEST;
  var at = NONE;
  var wrong = false;
  for (var i = lane; i < step.columns; i += LANES) {
    let bits = list[i].y;
    wrong = wrong | (bits == 0x7f800000u) | ((bits & 0x7fffffffu) > 0x7f800000u);
    let number = bitcast<f32>(bits);
    if (number > value) {
      value = number;
      at = i;
    }
    if (bits != NEGATIVE_INFINITY) { lowest = min(lowest, number); }
  }
  values[lane] = select(value, LARGEST, wrong);
  places[lane] = select(at, NONE, wrong);
  lowest_values[lane] = lowest;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      let other = lane + half;
      lowest_values[lane] = min(lowest_values[lane], lowest_values[other]);
      if (values[other] > values[lane] || (values[other] == values[lane] && places[other] < places[lane])) {
        values[lane] = values[other];
        places[lane] = places[other];
      }
    }
  }
  var chosen = workgroupUniformLoad(&places[0]);
  best = workgroupUniformLoad(&values[0]);
  let range = best - workgroupUniformLoad(&lowest_values[0]);
  if (sampling.greedy == 0u && chosen != NONE) {
    // 2³¹ divided by the power of two that the range begins with.
    spread = bitcast<f32>((285u - max(bitcast<u32>(range) >> 23u, 40u)) << 23u);
    kept = (step.columns - min(lane, step.columns) + LANES - 1u) / LANES;
    let amounts = vec3(
      select(sampling.top_k, 0u, sampling.top_k >= step.columns),
      sampling.top_p,
      random_share(length),
    );
    for (var what = COUNT; what <= DRAWN; what++) {
      if (what != DRAWN && amounts[what] == 0u) { continue; }
      let last = choose(what, amounts[what]);
      if (what != DRAWN) {
        keep(last);
      } else if (last.z == 1u) {
        chosen = last.x;
      }
    }
  }
  if (lane == 0u) { index[0] = chosen; }
}
