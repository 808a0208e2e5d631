// Keeps a GPU busy for a number of clock cycles, while the calls to be timed are queued behind it.
extern "C" __global__ void wait(long long cycles)
{
    const long long start = clock64();
    while (clock64() - start < cycles) {
    }
}
