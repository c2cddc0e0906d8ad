/* A compiled variant called from C: a prompt at once by the chunked form, then a token a call by the recurrent one.
 *
 * Two objects of one variant, of different names:
 *
 *   chunkwise emit examples/gla.attn --backend llvm --stage object --form chunked --chunk 64 \
 *       --dim K=64 --dim V=64 --name gla_prompt -o gla_prompt.o --header gla_prompt.h
 *   chunkwise emit examples/gla.attn --backend llvm --stage object --form recurrent \
 *       --dim K=64 --dim V=64 --name gla_token -o gla_token.o --header gla_token.h
 *   cc examples/call_gla.c -I. gla_prompt.o gla_token.o -o call_gla && ./call_gla
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gla_prompt.h"
#include "gla_token.h"

/* Batch elements, heads, tokens in all, tokens of the prompt. K and V are compiled in. */
enum { B = 2, H = 4, T = 100, PROMPT = 90, K = GLA_PROMPT_K, V = GLA_PROMPT_V };

static float *floats(size_t n) {
    float *memory = malloc(n * sizeof(float));
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

/* Numbers between -1 and 1, the same on every machine. */
static float *drawn(size_t n) {
    static unsigned state = 1;
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

/* Tokens from..to of a tensor [B,T,H,width], as a tensor of its own: batch elements are the outer axis. */
static float *tokens(const float *x, int from, int to, int width) {
    size_t row = (size_t)H * (size_t)width, n = (size_t)(to - from) * row;
    float *part = floats(B * n);
    for (size_t b = 0; b < B; b++) memcpy(part + b * n, x + (b * T + (size_t)from) * row, n * sizeof(float));
    return part;
}

static void check(int32_t code, const char *what) {
    if (code != GLA_PROMPT_OK) {
        fprintf(stderr, "%s returned %d\n", what, (int)code);
        exit(1);
    }
}

int main(void) {
    float *q = drawn(B * T * H * K), *k = drawn(B * T * H * K), *g = drawn(B * T * H * K), *v = drawn(B * T * H * V);
    float *state = floats(B * H * K * V), *all = floats(B * T * H * V), *o = floats(B * T * H * V);

    /* One workspace serves all calls: as many bytes as the largest of them wants. It is never cleared. */
    size_t bytes = gla_prompt_workspace(B, T, H), less = gla_token_workspace(B, 1, H);
    void *workspace = malloc(bytes > less ? bytes : less);
    if (workspace == NULL) return 1;

    /* Everything at once, from the declared initial state (NULL): what the two parts below must agree with. */
    check(gla_prompt(q, k, g, v, NULL, all, state, B, T, H, workspace, bytes), "gla_prompt");

    /* The prompt. Its final state goes on into decoding. */
    float *q0 = tokens(q, 0, PROMPT, K), *k0 = tokens(k, 0, PROMPT, K);
    float *g0 = tokens(g, 0, PROMPT, K), *v0 = tokens(v, 0, PROMPT, V);
    check(gla_prompt(q0, k0, g0, v0, NULL, o, state, B, PROMPT, H, workspace, bytes), "gla_prompt");

    /* Then a token a call: the state goes in and out at one address. */
    float worst = 0.0f;
    for (int t = PROMPT; t < T; t++) {
        float *q1 = tokens(q, t, t + 1, K), *k1 = tokens(k, t, t + 1, K);
        float *g1 = tokens(g, t, t + 1, K), *v1 = tokens(v, t, t + 1, V);
        check(gla_token(q1, k1, g1, v1, state, o, state, B, 1, H, workspace, less), "gla_token");
        float *wanted = tokens(all, t, t + 1, V);
        for (int i = 0; i < B * H * V; i++) {
            float off = o[i] > wanted[i] ? o[i] - wanted[i] : wanted[i] - o[i];
            /* A NaN is no agreement either. */
            if (!(off <= worst)) worst = off;
        }
        free(q1), free(k1), free(g1), free(v1), free(wanted);
    }
    printf("%d tokens one by one: off by at most %.1e\n", T - PROMPT, (double)worst);

    free(q), free(k), free(g), free(v), free(q0), free(k0), free(g0), free(v0);
    free(state), free(all), free(o), free(workspace);
    return worst <= 1e-5f ? 0 : 1;
}
