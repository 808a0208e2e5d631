// Gather kernels: one thread sums the elements that an output element reads, forward and transposed alike, from the
// tables of convop/geometry/gather_table.py. No two threads write the same element, so results are the same from run to
// run.
//
// Compiled with
//   REAL                 float or double
//   COMPLEX              0 or 1
//   INT                  integers that count all elements: int, or long long where int overflows
//   INDEX                integers of the sparse matrix
//   AXES                 spatial axes, at least 2: the last two are the row axis and the column axis
//   TILE_ROWS            rows of a register tile, which one thread computes together
//   TILE_TAPS            most entries of a row of a tile; 0 without tiles
//   ROW_STEP, TAP_STEP   positions from one row of a tile to the next, and from one entry of a row to the next
//
// The rows of a tile read the same elements through different taps: each element is loaded once for all rows, and each
// weight once for all elements.

typedef INT Int;

#if COMPLEX
struct Number {
    REAL re, im;
};
__device__ inline Number zero() { return Number{0, 0}; }
__device__ inline Number conjugate(Number a) { return Number{a.re, -a.im}; }
__device__ inline Number fused(Number a, Number b, Number c)
{
    return Number{fma(a.re, b.re, fma(-a.im, b.im, c.re)), fma(a.re, b.im, fma(a.im, b.re, c.im))};
}
#else
typedef REAL Number;
__device__ inline Number zero() { return 0; }
__device__ inline Number conjugate(Number a) { return a; }
__device__ inline Number fused(Number a, Number b, Number c) { return fma(a, b, c); }
#endif

// The integers that describe a map (`info`): HEAD of the map itself, then FIELDS of each axis.
enum { GROUPS, READ_CHANNELS, WRITTEN_CHANNELS, READ_SPACE, WRITTEN_SPACE, ENTRIES, TASKS, HEAD };
enum {
    WRITTEN, READ_PITCH, WRITTEN_PITCH, ENTRY_PITCH, FIRST, LAST, PERIOD, SHIFT, LO, STEP,
    AT_PHASES, AT_BASE, AT_START, AT_STOP, AT_OFFSET, FIELDS
};

// The elements that one element of an axis reads: `count` entries from `first` on, at their offsets from `base`.
struct Reads {
    Int base, first, count;
};

__device__ inline Reads reads(const Int *axis, const Int *tables, Int i)
{
    Reads r;
    Int stop;
    if (i >= axis[FIRST] && i < axis[LAST]) {
        const Int u = i + axis[SHIFT], q = axis[PERIOD] == 1 ? u : u / axis[PERIOD], p = u - q * axis[PERIOD];
        r.base = q * axis[STEP] - axis[LO];
        r.first = tables[axis[AT_PHASES] + 2 * p];
        stop = tables[axis[AT_PHASES] + 2 * p + 1];
    } else {
        const Int j = i < axis[FIRST] ? i : i - (axis[LAST] - axis[FIRST]);
        r.base = tables[axis[AT_BASE] + j];
        r.first = tables[axis[AT_START] + j];
        stop = tables[axis[AT_STOP] + j];
    }
    r.count = stop - r.first;
    return r;
}

// Iterates over the combinations of the entries of all axes but the last two.
struct Outer {
    const Int *axes, *tables;
    Reads at[AXES];
    Int entry[AXES];

    __device__ bool begin()
    {
        for (int a = 0; a < AXES - 2; a++) {
            entry[a] = 0;
            if (at[a].count == 0)
                return false;
        }
        return true;
    }
    __device__ bool next()
    {
        for (int a = AXES - 3; a >= 0; a--) {
            if (++entry[a] < at[a].count)
                return true;
            entry[a] = 0;
        }
        return false;
    }
    __device__ Int position() const
    {
        Int sum = 0;
        for (int a = 0; a < AXES - 2; a++) {
            const Int *axis = axes + a * FIELDS;
            sum += (at[a].base + tables[axis[AT_OFFSET] + at[a].first + entry[a]]) * axis[READ_PITCH];
        }
        return sum;
    }
    __device__ Int weight() const
    {
        Int sum = 0;
        for (int a = 0; a < AXES - 2; a++)
            sum += (at[a].first + entry[a]) * (axes + a * FIELDS)[ENTRY_PITCH];
        return sum;
    }
};

#if TILE_TAPS
// Microkernel: sums of TILE_ROWS rows with K entries each. `x` is at the first entry of the first row, `w` at its
// weight.
template <int K>
__device__ inline void microkernel(Number *sums, const Number *x, Int pitch, const Number *w, Int entry_pitch,
                                   const Int *offsets, Int count)
{
    for (Int e = 0; e < count; e++) {
        const Number *from = x + offsets[e];
        Number weights[K];
#pragma unroll
        for (int k = 0; k < K; k++)
            weights[k] = w[k * entry_pitch + e];
#pragma unroll
        for (int j = 0; j <= (TILE_ROWS - 1) * ROW_STEP + (K - 1) * TAP_STEP; j++) {
            bool read = false;
#pragma unroll
            for (int r = 0; r < TILE_ROWS; r++) {
                const int ahead = j - r * ROW_STEP;
                read = read || (ahead >= 0 && ahead % TAP_STEP == 0 && ahead / TAP_STEP < K);
            }
            if (read) {
                const Number value = from[j * pitch];
#pragma unroll
                for (int r = 0; r < TILE_ROWS; r++) {
                    const int ahead = j - r * ROW_STEP;
                    if (ahead >= 0 && ahead % TAP_STEP == 0 && ahead / TAP_STEP < K)
                        sums[r] = fused(weights[ahead / TAP_STEP], value, sums[r]);
                }
            }
        }
    }
}
#endif

// Writes element i of the rows of a task. A plane is a column of y, a channel, and an element of each of the other
// axes.
__device__ inline void work(const Number *__restrict__ x, const Number *__restrict__ w, Number *__restrict__ y,
                            const Int *__restrict__ info, const Int *__restrict__ tables, const Int *__restrict__ task,
                            Int plane, Int i)
{
    const Int *axes = info + HEAD, *rows = axes + (AXES - 2) * FIELDS, *last = axes + (AXES - 1) * FIELDS;
    Outer outer;
    outer.axes = axes;
    outer.tables = tables;
    Int out = i * last[WRITTEN_PITCH];
    for (int a = AXES - 3; a >= 0; a--) {
        const Int *axis = axes + a * FIELDS;
        const Int o = plane % axis[WRITTEN];
        plane /= axis[WRITTEN];
        outer.at[a] = reads(axis, tables, o);
        out += o * axis[WRITTEN_PITCH];
    }
    out += plane * info[WRITTEN_SPACE];
    const Int written = info[GROUPS] * info[WRITTEN_CHANNELS], column = plane / written;
    const Int channel = plane - column * written, group = channel / info[WRITTEN_CHANNELS];
    const Int source = (column * info[GROUPS] + group) * info[READ_CHANNELS];
    const Reads along = reads(last, tables, i), row = reads(rows, tables, task[0]);
    const Int *offsets = tables + last[AT_OFFSET] + along.first;
    const Int *row_offsets = tables + rows[AT_OFFSET] + row.first;

    Number sums[TILE_ROWS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; r++)
        sums[r] = zero();
    for (Int c = 0; c < info[READ_CHANNELS]; c++) {
        if (!outer.begin() || row.count == 0)
            break;
        do {
            const Number *from = x + (source + c) * info[READ_SPACE] + outer.position() + along.base;
            const Number *weights = w + (channel * info[READ_CHANNELS] + c) * info[ENTRIES] + outer.weight()
                                    + row.first * rows[ENTRY_PITCH] + along.first;
#if TILE_TAPS
            if (task[1] == TILE_ROWS) {
                const Number *first = from + (row.base + row_offsets[0]) * rows[READ_PITCH];
                if (row.count == TILE_TAPS)
                    microkernel<TILE_TAPS>(sums, first, rows[READ_PITCH], weights, rows[ENTRY_PITCH], offsets,
                                           along.count);
#if TILE_TAPS > 1
                else
                    microkernel<TILE_TAPS - 1>(sums, first, rows[READ_PITCH], weights, rows[ENTRY_PITCH], offsets,
                                               along.count);
#endif
                continue;
            }
#endif
            for (Int k = 0; k < row.count; k++) {
                const Number *at = from + (row.base + row_offsets[k]) * rows[READ_PITCH];
                const Number *by = weights + k * rows[ENTRY_PITCH];
                for (Int e = 0; e < along.count; e++)
                    sums[0] = fused(by[e], at[offsets[e]], sums[0]);
            }
        } while (outer.next());
    }
#pragma unroll
    for (int r = 0; r < TILE_ROWS; r++)
        if (r < task[1] && r >= task[3])
            y[out + (task[0] + r * task[2]) * rows[WRITTEN_PITCH]] = sums[r];
}

// x (columns, groups, channels read, *space), w (groups, channels written, channels read, *entries),
// y (columns, groups, channels written, *space). A task is a row, or a tile of TILE_ROWS rows of one phase: its first
// row, their number, their distance, and how many of them another tile writes.
extern "C" __global__ void correlate(const Number *__restrict__ x, const Number *__restrict__ w, Number *__restrict__ y,
                                     const Int *__restrict__ info, const Int *__restrict__ tables,
                                     const Int *__restrict__ tasks, Int planes)
{
    const Int *last = info + HEAD + (AXES - 1) * FIELDS;
    const Int i = (Int)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= last[WRITTEN])
        return;
    for (Int plane = blockIdx.z; plane < planes; plane += gridDim.z)
        for (Int task = (Int)blockIdx.y * blockDim.y + threadIdx.y; task < info[TASKS]; task += gridDim.y * blockDim.y)
            work(x, w, y, info, tables, tasks + 4 * task, plane, i);
}

// Writes the entries of all rows of the matrix, in the order of their columns: each lane of a row takes one at a time.
extern "C" __global__ void fill(INDEX *__restrict__ indices, Number *__restrict__ data,
                                const INDEX *__restrict__ pointers, const Number *__restrict__ w,
                                const Int *__restrict__ info, const Int *__restrict__ tables, Int count)
{
    const Int *axes = info + HEAD;
    const Int number = (Int)blockIdx.x * blockDim.y + threadIdx.y;
    if (number >= count)
        return;
    Reads at[AXES];
    Int rest = number;
    for (int a = AXES - 1; a >= 0; a--) {
        const Int *axis = axes + a * FIELDS;
        at[a] = reads(axis, tables, rest % axis[WRITTEN]);
        rest /= axis[WRITTEN];
    }
    const Int group = rest / info[WRITTEN_CHANNELS];
    const Int begin = pointers[number], length = pointers[number + 1] - begin;
    for (Int n = threadIdx.x; n < length; n += blockDim.x) {
        Int left = n, column = 0, weight = 0;
        for (int a = AXES - 1; a >= 0; a--) {
            const Int *axis = axes + a * FIELDS;
            const Int entry = at[a].first + left % at[a].count;
            left /= at[a].count;
            column += (at[a].base + tables[axis[AT_OFFSET] + entry]) * axis[READ_PITCH];
            weight += entry * axis[ENTRY_PITCH];
        }
        indices[begin + n] = (INDEX)((group * info[READ_CHANNELS] + left) * info[READ_SPACE] + column);
        data[begin + n] = w[(rest * info[READ_CHANNELS] + left) * info[ENTRIES] + weight];
    }
}

// The integers that describe the sums of `gradient` (`info`): G_HEAD of the map itself, then G_FIELDS of each axis.
enum { G_GROUPS, G_INPUTS, G_OUTPUTS, G_INPUT_SPACE, G_OUTPUT_SPACE, G_TAPS, G_COLUMNS, G_CHUNK, G_HEAD };
enum { G_WRITTEN, G_AXIS_TAPS, G_PITCH, G_STRIDE, G_DILATION, G_EXTENSION_AT, G_FIELDS };

// partial[chunk, column, output channel, input channel, tap]: over a chunk of outputs, the sum of the residuals times
// the conjugated inputs that the tap reads there. One thread computes each sum; the chunks are added afterwards, always
// in the same order.
extern "C" __global__ void gradient(const Number *__restrict__ x, const Number *__restrict__ y,
                                    Number *__restrict__ partial, const Int *__restrict__ info,
                                    const Int *__restrict__ extensions)
{
    const Int *axes = info + G_HEAD;
    const Int outputs = info[G_GROUPS] * info[G_OUTPUTS];
    const Int size = info[G_COLUMNS] * outputs * info[G_INPUTS] * info[G_TAPS];
    const Int number = (Int)blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= size)
        return;
    Int rest = number, at[AXES], o[AXES];
    for (int a = AXES - 1; a >= 0; a--) { // where the extension of the axis begins for this tap
        const Int *axis = axes + a * G_FIELDS;
        at[a] = axis[G_EXTENSION_AT] + rest % axis[G_AXIS_TAPS] * axis[G_DILATION];
        rest /= axis[G_AXIS_TAPS];
    }
    const Int input = rest % info[G_INPUTS], channel = rest / info[G_INPUTS]; // the latter counts columns, too
    const Int group = channel % outputs / info[G_OUTPUTS];
    const Number *from = x + (group * info[G_INPUTS] + input) * info[G_INPUT_SPACE];
    const Number *residual = y + channel * info[G_OUTPUT_SPACE];
    const Int first = (Int)blockIdx.y * info[G_CHUNK];
    Int stop = first + info[G_CHUNK];
    if (stop > info[G_OUTPUT_SPACE])
        stop = info[G_OUTPUT_SPACE];
    rest = first;
    for (int a = AXES - 1; a >= 0; a--) {
        o[a] = rest % (axes + a * G_FIELDS)[G_WRITTEN];
        rest /= (axes + a * G_FIELDS)[G_WRITTEN];
    }
    Number sum = zero();
    for (Int n = first; n < stop; n++) {
        Int position = 0;
        bool read = true;
        for (int a = 0; a < AXES; a++) {
            const Int *axis = axes + a * G_FIELDS;
            const Int source = extensions[at[a] + o[a] * axis[G_STRIDE]];
            read = read && source >= 0;
            position += source * axis[G_PITCH];
        }
        if (read)
            sum = fused(conjugate(from[position]), residual[n], sum);
        for (int a = AXES - 1; a >= 0 && ++o[a] == (axes + a * G_FIELDS)[G_WRITTEN]; a--)
            o[a] = 0;
    }
    partial[(Int)blockIdx.y * size + number] = sum;
}
