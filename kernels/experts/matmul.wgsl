// W·x of chosen experts for many positions. A workgroup has some rows of one expert. First it lists the positions that have chosen it, of
// 128, then goes over them by four: weights are unpacked once for those. Lanes share tiles of four rows as in products/matvec.wgsl.
override LANES: u32;
override COLUMN_LANES: u32;

// Must equal the numbers in linear_experts.ts.
const POSITIONS = 128u;
const RUNS = 8u;

@group(0) @binding(4) var<storage, read> ids: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

var<private> lane_: u32;
// Of each position, 1 more than the place that the expert has among those it chose; 0 where it has none.
var<workgroup> places: array<u32, POSITIONS>;
// A bit for each position that has.
var<workgroup> bits: array<u32, 4>;
// Those positions' places in `ids`.
var<workgroup> pairs: array<u32, POSITIONS>;
var<workgroup> count: u32;
var<workgroup> partial: array<mat4x4<f32>, LANES>;

fn list_positions(expert: u32, start: u32, lane: u32) {
  for (var t = lane; t < POSITIONS; t += LANES) {
    var place = 0u;
    for (var k = 0u; k < step.used && start + t < pass_.tokens; k++) {
      if (ids[(start + t) * step.used + k] == expert) { place = k + 1u; }
    }
    places[t] = place;
  }
  workgroupBarrier();
  for (var w = lane; w < 4u; w += LANES) {
    var word = 0u;
    for (var i = 0u; i < 32u; i++) { word |= select(0u, 1u << i, places[32u * w + i] > 0u); }
    bits[w] = word;
  }
  workgroupBarrier();
  for (var t = lane; t < POSITIONS; t += LANES) {
    if (places[t] == 0u) { continue; }
    var before = countOneBits(bits[t / 32u] & ((1u << (t % 32u)) - 1u));
    for (var w = 0u; w < t / 32u; w++) { before += countOneBits(bits[w]); }
    pairs[before] = (start + t) * step.used + places[t] - 1u;
  }
  if (lane == 0u) {
    count = countOneBits(bits[0]) + countOneBits(bits[1]) + countOneBits(bits[2]) + countOneBits(bits[3]);
  }
}

struct Rows { a: mat2x4<f32>, b: mat2x4<f32>, c: mat2x4<f32>, d: mat2x4<f32> }

fn dots(rows: Rows, x: mat2x4<f32>) -> vec4<f32> {
  return vec4<f32>(dot(rows.a[0], x[0]), dot(rows.b[0], x[0]), dot(rows.c[0], x[0]), dot(rows.d[0], x[0])) +
    vec4<f32>(dot(rows.a[1], x[1]), dot(rows.b[1], x[1]), dot(rows.c[1], x[1]), dot(rows.d[1], x[1]));
}

fn x_row(pair: u32) -> u32 {
  return select(pair, pair / step.used, step.shared_ == 1u);
}

// The products of a tile with four positions, one of each in a column; a lane's part of them.
fn products(first: u32, tile: u32, lane: u32, four: vec4<u32>) -> mat4x4<f32> {
  let r0 = part_row(first, tile * 4u);
  let r1 = part_row(first, tile * 4u + 1u);
  let r2 = part_row(first, tile * 4u + 2u);
  let r3 = part_row(first, tile * 4u + 3u);
  let x0 = x_row(four.x);
  let x1 = x_row(four.y);
  let x2 = x_row(four.z);
  let x3 = x_row(four.w);
  var sums = mat4x4<f32>();
  for (var c = first_chunk(lane); c < step.groups / CHUNK_GROUPS; c += COLUMN_LANES) {
    let a = load_block(r0, c);
    let b = load_block(r1, c);
    let d = load_block(r2, c);
    let e = load_block(r3, c);
    let own0 = own_columns(x0, c);
    let own1 = own_columns(x1, c);
    let own2 = own_columns(x2, c);
    let own3 = own_columns(x3, c);
    // Sums of a chunk are added up on their own: short chains of additions round less.
    var part = mat4x4<f32>();
    for (var i = 0u; i < CHUNK_GROUPS; i++) {
      let rows = Rows(eight(a, i), eight(b, i), eight(d, i), eight(e, i));
      part += mat4x4<f32>(
        dots(rows, columns8(own0, i)),
        dots(rows, columns8(own1, i)),
        dots(rows, columns8(own2, i)),
        dots(rows, columns8(own3, i)),
      );
    }
    sums += part;
  }
  return sums;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  lane_ = lane;
  let expert = step.out_row / step.rows + group.y;
  let first = expert * step.rows;
  list_positions(expert, group.z * POSITIONS, lane);
  let listed = workgroupUniformLoad(&count);
  for (var run = 0u; run < RUNS; run++) {
    let tile = (group.x * RUNS + run) * (LANES / COLUMN_LANES) + lane / COLUMN_LANES;
    for (var at = 0u; at < listed; at += 4u) {
      let last = listed - 1u;
      let four = vec4<u32>(
        pairs[at],
        pairs[min(at + 1u, last)],
        pairs[min(at + 2u, last)],
        pairs[min(at + 3u, last)],
      );
      var sums = products(first, tile, lane, four);
      if (COLUMN_LANES > 1u) {
        partial[lane] = sums;
        for (var half = COLUMN_LANES / 2u; half > 0u; half /= 2u) {
          workgroupBarrier();
          if (lane % COLUMN_LANES < half) { partial[lane] += partial[lane + half]; }
        }
        sums = partial[lane];
        workgroupBarrier();
      }
      if (lane % COLUMN_LANES == 0u) {
        store(four.x, first, tile, sums[0]);
        if (at + 1u < listed) { store(four.y, first, tile, sums[1]); }
        if (at + 2u < listed) { store(four.z, first, tile, sums[2]); }
        if (at + 3u < listed) { store(four.w, first, tile, sums[3]); }
      }
    }
  }
}
