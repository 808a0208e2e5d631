// Keeps a GPU busy for so many cycles of its clock, while what is to be timed is put into its queue.
extern "C" __global__ void wait(long long cycles)
{
    const long long start = clock64();
    while (clock64() - start < cycles) {
    }
}
