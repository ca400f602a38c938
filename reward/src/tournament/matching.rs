//! Size of a maximum matching in a small graph, by Edmonds' blossom algorithm.
//!
//! Knows vertices and edges only. Reference: J. Edmonds, "Paths, Trees, and Flowers", 1965; O(n^3).

use std::collections::VecDeque;

/// Returns the maximum number of edges without a common vertex in a graph of `n_vertices`;
/// `adjacent` decides whether two vertices share an edge.
///
/// `adjacent` must be symmetric; it is not called with a vertex and itself.
pub(super) fn maximum_matching_size(
    n_vertices: usize,
    adjacent: impl Fn(usize, usize) -> bool,
) -> usize {
    let neighbours = (0..n_vertices)
        .map(|v| (0..n_vertices).filter(|&w| v != w && adjacent(v, w)).collect())
        .collect();
    let mut search = PathSearch {
        neighbours,
        partner: vec![None; n_vertices],
        parent: vec![None; n_vertices],
        base: (0..n_vertices).collect(),
    };
    (0..n_vertices).filter(|&root| search.partner[root].is_none() && search.augment(root)).count()
}

/// A matching that grows by augmenting paths.
struct PathSearch {
    neighbours: Vec<Vec<usize>>,
    partner: Vec<Option<usize>>,
    /// In the alternating tree: the vertex before an odd vertex.
    parent: Vec<Option<usize>>,
    /// The base of the blossom that each vertex is shrunk into.
    base: Vec<usize>,
}

impl PathSearch {
    /// Searches an augmenting path from a free vertex and flips it; true if the matching grew.
    fn augment(&mut self, root: usize) -> bool {
        let n_vertices = self.neighbours.len();
        self.parent.fill(None);
        for (vertex, base) in self.base.iter_mut().enumerate() {
            *base = vertex;
        }
        let mut is_even = vec![false; n_vertices];
        is_even[root] = true;
        let mut queue = VecDeque::from([root]);
        while let Some(v) = queue.pop_front() {
            for idx in 0..self.neighbours[v].len() {
                let w = self.neighbours[v][idx];
                if self.base[v] == self.base[w] || self.partner[v] == Some(w) {
                    continue;
                }
                let closes_odd_cycle =
                    w == root || self.partner[w].is_some_and(|p| self.parent[p].is_some());
                if closes_odd_cycle {
                    self.shrink(v, w, &mut is_even, &mut queue);
                } else if self.parent[w].is_none() {
                    self.parent[w] = Some(v);
                    match self.partner[w] {
                        None => {
                            self.flip(w);
                            return true;
                        }
                        Some(next) => {
                            is_even[next] = true;
                            queue.push_back(next);
                        }
                    }
                }
            }
        }
        false
    }

    /// Shrinks the odd cycle that the edge between two even vertices closes.
    fn shrink(&mut self, v: usize, w: usize, is_even: &mut [bool], queue: &mut VecDeque<usize>) {
        let top = self.common_base(v, w);
        let mut in_blossom = vec![false; self.base.len()];
        self.mark_path(v, top, w, &mut in_blossom);
        self.mark_path(w, top, v, &mut in_blossom);
        for vertex in 0..self.base.len() {
            if in_blossom[self.base[vertex]] {
                self.base[vertex] = top;
                if !is_even[vertex] {
                    is_even[vertex] = true;
                    queue.push_back(vertex);
                }
            }
        }
    }

    /// The lowest base that the tree paths of two even vertices share.
    fn common_base(&self, v: usize, w: usize) -> usize {
        let mut on_path = vec![false; self.base.len()];
        let mut vertex = Some(v);
        while let Some(even) = vertex {
            let base = self.base[even];
            on_path[base] = true;
            vertex = self.even_above(base);
        }
        let mut base = self.base[w];
        while !on_path[base] {
            let above = self.even_above(base);
            base = self.base[above.expect("Both paths end at the root. This is a bug.")];
        }
        base
    }

    /// The even vertex two steps nearer to the root; `None` at the root.
    fn even_above(&self, even: usize) -> Option<usize> {
        self.partner[even].and_then(|odd| self.parent[odd])
    }

    /// Marks the blossoms from an even vertex up to `top`, and sets the parents of the even
    /// vertices on the way, beginning with `child`.
    fn mark_path(&mut self, from: usize, top: usize, child: usize, in_blossom: &mut [bool]) {
        let (mut vertex, mut child) = (from, child);
        while self.base[vertex] != top {
            let odd = self.partner[vertex].expect("Only the root is free. This is a bug.");
            in_blossom[self.base[vertex]] = true;
            in_blossom[self.base[odd]] = true;
            self.parent[vertex] = Some(child);
            child = odd;
            vertex = self.parent[odd].expect("An odd vertex has a parent. This is a bug.");
        }
    }

    /// Exchanges matched and free edges on the path from a free vertex back to the root.
    fn flip(&mut self, end: usize) {
        let mut free = Some(end);
        while let Some(w) = free {
            let v = self.parent[w].expect("The path leads to the root. This is a bug.");
            free = self.partner[v].replace(w);
            self.partner[w] = Some(v);
        }
    }
}
