//! Blocks, spans and the prefix tree, compared with a plain set of all prefixes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn compute(memory: &mut KvMemory, prompt: &[u32]) -> (BlockTable, usize) {
    let mut table = memory.open();
    let n_reused = memory.reuse(&mut table, &prompt[..prompt.len() - 1]);
    let slots = memory.extend(&mut table, &prompt[n_reused..], true);
    assert_eq!(slots.len(), prompt.len() - n_reused);
    assert_eq!(table.n_tokens(), prompt.len());
    let held: usize = table.spans().iter().map(|span| span.n_tokens as usize).sum();
    assert_eq!(held, prompt.len());
    (table, slots.len())
}

#[test]
fn reuse_shares_a_prefix_to_the_token() {
    let mut memory = KvMemory::new(64, true);
    let first: Vec<u32> = (0..40).collect();
    let mut second = first.clone();
    second.truncate(21);
    second.extend([900, 901, 902]);
    assert_eq!(compute(&mut memory, &first).1, 40);
    assert_eq!(compute(&mut memory, &second).1, 3);
    // the last token is computed again for its logits
    assert_eq!(compute(&mut memory, &second).1, 1);
    assert_eq!(compute(&mut memory, &first[..30]).1, 1);
}

#[test]
fn fork_shares_all_blocks_and_writes_to_its_own() {
    let mut memory = KvMemory::new(8, true);
    let (mut a, _) = compute(&mut memory, &[1, 2, 3]);
    let mut b = memory.fork(&a);
    let slot_a = memory.extend(&mut a, &[7], false)[0];
    let slot_b = memory.extend(&mut b, &[8], false)[0];
    assert_eq!((slot_a.block, slot_a.offset), (a.spans()[0].block, 3));
    assert_ne!(slot_b.block, slot_a.block);
    assert_eq!(b.spans()[0], Span { block: slot_a.block, n_tokens: 3 });
    memory.release(a);
    memory.release(b);
    // generated tokens are not cached, the prompt is
    assert_eq!(memory.usage(), KvUsage { n_blocks: 8, n_free: 7, n_cached: 1 });
    assert_eq!(compute(&mut memory, &[1, 2, 3, 7]).1, 1);
}

#[test]
fn extend_evicts_the_longest_unused_prefix_and_keeps_used_ones() {
    let mut memory = KvMemory::new(3, true);
    let long: Vec<u32> = (0..16).collect();
    let other: Vec<u32> = (100..116).collect();
    let (kept, _) = compute(&mut memory, &long);
    let (gone, _) = compute(&mut memory, &other);
    memory.release(gone);
    let (third, _) = compute(&mut memory, &[7; 32]);
    assert_eq!(memory.usage().n_free, 0);
    let mut more = memory.open();
    assert!(memory.extend(&mut more, &[5], true).is_empty(), "no block can be evicted");
    memory.release(third);
    memory.release(kept);
    assert_eq!(compute(&mut memory, &long).1, 1, "its prefix was in use when blocks were evicted");
}

#[test]
fn release_frees_everything_without_a_prefix_cache() {
    let mut memory = KvMemory::new(4, false);
    let (a, _) = compute(&mut memory, &[1; 20]);
    let (b, computed) = compute(&mut memory, &[1; 20]);
    assert_eq!(computed, 20);
    memory.release(a);
    memory.release(b);
    assert_eq!(memory.usage(), KvUsage { n_blocks: 4, n_free: 4, n_cached: 0 });
}

proptest! {
    #[test]
    fn reuse_computes_exactly_the_trie_of_the_prompts(
        prompts in prop::collection::vec(prop::collection::vec(0u32..3, 2..60), 1..40),
        released in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut memory = KvMemory::new(4_096, true);
        let mut trie = BTreeSet::new();
        let mut open = Vec::new();
        for (prompt, release) in prompts.iter().zip(&released) {
            let known = (1..=prompt.len()).filter(|&n| trie.contains(&prompt[..n])).count();
            let (table, n_computed) = compute(&mut memory, prompt);
            let least = (prompt.len() - known).max(1);
            prop_assert_eq!(n_computed, least);
            for n in 1..=prompt.len() {
                trie.insert(prompt[..n].to_vec());
            }
            if *release { memory.release(table) } else { open.push(table) }
        }
        for table in open {
            memory.release(table);
        }
        memory.forget();
        prop_assert_eq!(memory.usage(), KvUsage { n_blocks: 4_096, n_free: 4_096, n_cached: 0 });
    }
}
