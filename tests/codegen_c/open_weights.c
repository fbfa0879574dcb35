/* Opens the weights in a directory twice; prints the status, then a sum of the bytes of each tensor. */
#include "vacc_weights.h"

#include <stdio.h>

int main(int argc, char **argv) {
    struct vacc_weights weights;
    void *tensors[VACC_WEIGHTS + 1];
    for (int round = 0; argc == 2 && round < 2; ++round) {
        const int status = vacc_weights_open(&weights, argv[1], tensors);
        if (round == 1) {
            printf("%d\n", status);
        }
        for (int i = 0; round == 1 && status == VACC_OK && i < VACC_WEIGHTS; ++i) {
            const unsigned char *const bytes = tensors[i];
            unsigned long long sum = 0;
            for (uint64_t at = 0; at < vacc_weight_table[i].bytes; ++at) {
                sum += bytes[at];
            }
            printf("%s %llu\n", vacc_weight_table[i].name, sum);
        }
        vacc_weights_close(&weights);
        vacc_weights_close(&weights); /* harmless */
    }
    return 0;
}
