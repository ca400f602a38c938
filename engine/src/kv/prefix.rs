//! Prefix cache: the computed prompts as a tree of blocks.
//!
//! A node is a block with its tokens. A child continues its parent after the first `offset` tokens.
//! A node that no context uses and that has no children may be evicted, the longest unused first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::block::{BLOCK_TOKENS, Span};

type NodeId = u32;

/// A position between two tokens of the tree: after the first `offset` tokens of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreePosition {
    node: NodeId,
    offset: u32,
}

/// The node that holds no tokens.
const ROOT: NodeId = 0;

impl TreePosition {
    pub(super) fn root() -> Self {
        Self { node: ROOT, offset: 0 }
    }
}

#[derive(Debug, Default)]
struct PrefixNode {
    block: u32,
    tokens: Vec<u32>,
    parent: Option<TreePosition>,
    /// Children by offset and tokens, so that neighbours share the longest prefix.
    children: BTreeMap<(u32, Vec<u32>), NodeId>,
    /// Time of the last release; none while a context uses the node.
    unused_since: Option<u64>,
}

/// The tree.
#[derive(Debug)]
pub(super) struct PrefixTree {
    nodes: Vec<PrefixNode>,
    vacant: Vec<NodeId>,
    by_block: HashMap<u32, NodeId>,
    /// Unused nodes without children.
    leaves: BTreeSet<(u64, NodeId)>,
    n_unused: usize,
    clock: u64,
}

impl Default for PrefixTree {
    fn default() -> Self {
        Self {
            nodes: vec![PrefixNode::default()],
            vacant: Vec::new(),
            by_block: HashMap::new(),
            leaves: BTreeSet::new(),
            n_unused: 0,
            clock: 0,
        }
    }
}

impl PrefixTree {
    pub(super) fn node_of(&self, block: u32) -> Option<NodeId> {
        self.by_block.get(&block).copied()
    }

    /// Number of nodes that no context uses.
    pub(super) fn n_unused(&self) -> usize {
        self.n_unused
    }

    /// From a position, follows `following` within the node or to a child: the new position and its
    /// span. None where the next token is not cached.
    pub(super) fn step(
        &self,
        position: TreePosition,
        following: &[u32],
    ) -> Option<(TreePosition, Span)> {
        let node = &self.nodes[position.node as usize];
        let own = shared(&node.tokens[position.offset as usize..], following);
        if own > 0 {
            let offset = position.offset + own as u32;
            let span = Span { block: node.block, n_tokens: offset };
            return Some((TreePosition { node: position.node, offset }, span));
        }
        let wanted = &following[..following.len().min(BLOCK_TOKENS)];
        let key = (position.offset, wanted.to_vec());
        let before = node.children.range((Unbounded, Included(&key))).next_back();
        let after = node.children.range((Excluded(&key), Unbounded)).next();
        let candidates = [before, after].into_iter().flatten();
        let candidates = candidates.filter(|((offset, _), _)| *offset == position.offset);
        let measured = candidates.map(|((_, tokens), &child)| (shared(tokens, wanted), child));
        let (n_tokens, child) = measured.max_by_key(|&(n_tokens, _)| n_tokens)?;
        (n_tokens > 0).then(|| {
            let n_tokens = n_tokens as u32;
            let span = Span { block: self.nodes[child as usize].block, n_tokens };
            (TreePosition { node: child, offset: n_tokens }, span)
        })
    }

    /// Adds a node with one token after a position; it is in use.
    pub(super) fn add(&mut self, position: TreePosition, block: u32, token: u32) -> TreePosition {
        let node = PrefixNode {
            block,
            tokens: vec![token],
            parent: Some(position),
            ..PrefixNode::default()
        };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeId
            }
        };
        self.by_block.insert(block, id);
        self.nodes[position.node as usize].children.insert((position.offset, vec![token]), id);
        TreePosition { node: id, offset: 1 }
    }

    /// Adds a token to the end of a node.
    pub(super) fn grow(&mut self, position: TreePosition, token: u32) -> TreePosition {
        let node = &mut self.nodes[position.node as usize];
        debug_assert_eq!(node.tokens.len(), position.offset as usize, "growth is at the end");
        let before = node.tokens.clone();
        node.tokens.push(token);
        let tokens = node.tokens.clone();
        let parent = node.parent.expect("the root does not grow. This is a bug.");
        let siblings = &mut self.nodes[parent.node as usize].children;
        siblings.remove(&(parent.offset, before));
        siblings.insert((parent.offset, tokens), position.node);
        TreePosition { node: position.node, offset: position.offset + 1 }
    }

    pub(super) fn set_used(&mut self, id: NodeId) {
        if let Some(since) = self.nodes[id as usize].unused_since.take() {
            self.leaves.remove(&(since, id));
            self.n_unused -= 1;
        }
    }

    pub(super) fn set_unused(&mut self, id: NodeId) {
        self.clock += 1;
        let node = &mut self.nodes[id as usize];
        debug_assert!(node.unused_since.is_none(), "a node is given up once");
        node.unused_since = Some(self.clock);
        self.n_unused += 1;
        if node.children.is_empty() {
            self.leaves.insert((self.clock, id));
        }
    }

    /// Evicts the longest unused leaf and returns its block.
    pub(super) fn remove_oldest(&mut self) -> Option<u32> {
        let (_, id) = self.leaves.pop_first()?;
        let node = std::mem::take(&mut self.nodes[id as usize]);
        self.vacant.push(id);
        self.by_block.remove(&node.block);
        self.n_unused -= 1;
        let position = node.parent.expect("the root is no leaf. This is a bug.");
        let parent = &mut self.nodes[position.node as usize];
        parent.children.remove(&(position.offset, node.tokens));
        if parent.children.is_empty()
            && let Some(since) = parent.unused_since
        {
            self.leaves.insert((since, position.node));
        }
        Some(node.block)
    }
}

/// Length of the common prefix.
fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
