/* Inserts into unbalanced binary trees: dependent loads and branches nobody can predict. */
#include "bench.h"
#include <stddef.h>

enum { NODES = 60000 };

struct node {
    uint32_t key;
    struct node *left, *right;
};

static struct node pool[NODES];

static void insert(struct node **root, struct node *n)
{
    while (*root) root = n->key < (*root)->key ? &(*root)->left : &(*root)->right;
    *root = n;
}

/* Visits in order, checking it; returns how many were seen. */
static unsigned walk(const struct node *n, uint32_t *last)
{
    unsigned seen = 0;

    for (; n; n = n->right) {
        seen += walk(n->left, last) + 1;
        if (n->key < *last) die("out of order");
        *last = n->key;
    }
    return seen;
}

void bench_tree(unsigned units)
{
    uint64_t total = 0;

    for (unsigned round = 0; round < units; round++) {
        struct node *root = NULL;
        uint32_t x = 88172645 + round, last = 0;
        uint64_t start = now_ns();

        for (int i = 0; i < NODES; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            pool[i] = (struct node){ .key = x };
            insert(&root, &pool[i]);
        }
        total += now_ns() - start;
        if (walk(root, &last) != NODES) die("nodes lost");
    }
    report("tree", (double)total / 1e6, "ms");
}
