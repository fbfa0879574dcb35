struct vacc_kernel_part1 {
    float *out;
    const vacc_bf16 *weight;
    const float *x;
};

static int vacc_kernel_part1(const void *context, int64_t index) {
    const struct vacc_kernel_part1 *const shared = context;
    float *const out = shared->out;
    const vacc_bf16 *const weight = shared->weight;
    const float *const x = shared->x;
    const int64_t task = index;
    float local1[16];
    float local2[1];
    vacc_store_f32x16(local1, vacc_splat_f32x16(0.0f));
    for (int64_t i1 = 0; i1 < 2; ++i1) {
        const vacc_f32x16 v1 = vacc_load_f32x16(&x[task * 37 + i1 * 16]);
        vacc_store_f32x16(
            local1,
            vacc_add_f32x16(vacc_load_f32x16(local1), vacc_mul_f32x16(v1, v1)));
    }
    for (int64_t i2 = 0; i2 < 5; ++i2) {
        const float x1 = x[task * 37 + i2 + 32];
        local1[0] = local1[0] + x1 * x1;
    }
    local2[0] = 0.0f;
    for (int64_t i3 = 0; i3 < 16; ++i3) {
        local2[0] = local2[0] + local1[i3];
    }
    local2[0] = 1.0f / sqrtf(local2[0] / 37.0f + 1.0e-05f);
    for (int64_t i4 = 0; i4 < 9; ++i4) {
        const vacc_f32x4 v2 = vacc_mul_f32x4(
            vacc_load_f32x4(&x[task * 37 + i4 * 4]),
            vacc_splat_f32x4(local2[0]));
        const vacc_f32x4 v3 = vacc_f32x4_bits_u32x4(
            vacc_shl_u32x4(
                vacc_u32x4_from_u16x4(vacc_u16x4_bits_bf16x4(vacc_load_bf16x4(&weight[i4 * 4]))),
                vacc_splat_u32x4(16u)));
        vacc_store_f32x4(&out[task * 37 + i4 * 4], vacc_mul_f32x4(v2, v3));
    }
    out[task * 37 + 36] = x[task * 37 + 36] * local2[0] * vacc_f32_bits_u32(
        ((uint32_t)weight[36]) << 16u);
    return VACC_OK;
}

int vacc_kernel(
    const float *restrict x,
    const vacc_bf16 *restrict weight,
    float *restrict out,
    int64_t tokens) {
    int status = VACC_OK;
    if (tokens >= 886) {
        const struct vacc_kernel_part1 vacc_kernel_part1_arguments = {out, weight, x};
        status |= vacc_parallel_for(vacc_kernel_part1, &vacc_kernel_part1_arguments, tokens);
    } else {
        for (int64_t i5 = 0; i5 < tokens; ++i5) {
            float local3[16];
            float local4[1];
            vacc_store_f32x16(local3, vacc_splat_f32x16(0.0f));
            for (int64_t i6 = 0; i6 < 2; ++i6) {
                const vacc_f32x16 v4 = vacc_load_f32x16(&x[i5 * 37 + i6 * 16]);
                vacc_store_f32x16(
                    local3,
                    vacc_add_f32x16(vacc_load_f32x16(local3), vacc_mul_f32x16(v4, v4)));
            }
            for (int64_t i7 = 0; i7 < 5; ++i7) {
                const float x2 = x[i5 * 37 + i7 + 32];
                local3[0] = local3[0] + x2 * x2;
            }
            local4[0] = 0.0f;
            for (int64_t i8 = 0; i8 < 16; ++i8) {
                local4[0] = local4[0] + local3[i8];
            }
            local4[0] = 1.0f / sqrtf(local4[0] / 37.0f + 1.0e-05f);
            for (int64_t i9 = 0; i9 < 9; ++i9) {
                const vacc_f32x4 v5 = vacc_mul_f32x4(
                    vacc_load_f32x4(&x[i5 * 37 + i9 * 4]),
                    vacc_splat_f32x4(local4[0]));
                const vacc_f32x4 v6 = vacc_f32x4_bits_u32x4(
                    vacc_shl_u32x4(
                        vacc_u32x4_from_u16x4(
                            vacc_u16x4_bits_bf16x4(vacc_load_bf16x4(&weight[i9 * 4]))),
                        vacc_splat_u32x4(16u)));
                vacc_store_f32x4(&out[i5 * 37 + i9 * 4], vacc_mul_f32x4(v5, v6));
            }
            out[i5 * 37 + 36] = x[i5 * 37 + 36] * local4[0] * vacc_f32_bits_u32(
                ((uint32_t)weight[36]) << 16u);
        }
    }
    return status;
}
