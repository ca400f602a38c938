//! Maximum matchings in a graph, by Edmonds' blossom algorithm, and how they change as vertices
//! leave.
//!
//! Knows vertices and edges only. Reference: J. Edmonds, "Paths, Trees, and Flowers", 1965; O(n^3),
//! after a greedy start that leaves few vertices without a partner.

use std::collections::VecDeque;

/// A maximum matching of the vertices that have not left.
///
/// `adjacent` decides whether two vertices share an edge. It must be symmetric; it is not called
/// with a vertex and itself.
pub(super) struct Matching<'a> {
    adjacent: &'a dyn Fn(usize, usize) -> bool,
    partner: Vec<Option<usize>>,
    has_left: Vec<bool>,
}

impl<'a> Matching<'a> {
    /// A maximum matching of a graph of `n_vertices`. Each vertex takes the first free vertex after
    /// it, as far as that leaves a maximum.
    pub(super) fn maximum(n_vertices: usize, adjacent: &'a dyn Fn(usize, usize) -> bool) -> Self {
        let partner = vec![None; n_vertices];
        let mut matching = Self { adjacent, partner, has_left: vec![false; n_vertices] };
        for v in 0..n_vertices {
            let mut after = v + 1..n_vertices;
            if matching.partner[v].is_none()
                && let Some(w) = after.find(|&w| matching.partner[w].is_none() && adjacent(v, w))
            {
                matching.partner[v] = Some(w);
                matching.partner[w] = Some(v);
            }
        }
        for v in 0..n_vertices {
            matching.augment(v);
        }
        matching
    }

    /// Number of edges.
    pub(super) fn size(&self) -> usize {
        self.partner.iter().flatten().count() / 2
    }

    /// The partner of a vertex.
    pub(super) fn partner(&self, vertex: usize) -> Option<usize> {
        self.partner[vertex]
    }

    /// The maximum matching after two vertices have left.
    pub(super) fn without(&self, one: usize, other: usize) -> Self {
        let mut rest = Self {
            adjacent: self.adjacent,
            partner: self.partner.clone(),
            has_left: self.has_left.clone(),
        };
        let mut alone = Vec::new();
        for vertex in [one, other] {
            rest.has_left[vertex] = true;
            if let Some(partner) = rest.partner[vertex].take() {
                rest.partner[partner] = None;
                alone.push(partner);
            }
        }
        // an augmenting path can only begin at a vertex that lost its partner
        for vertex in alone {
            rest.augment(vertex);
        }
        rest
    }

    /// Gives a vertex without a partner one, if the matching can grow.
    fn augment(&mut self, root: usize) {
        if self.partner[root].is_some() || self.has_left[root] {
            return;
        }
        let n_vertices = self.partner.len();
        let mut search = PathSearch {
            adjacent: self.adjacent,
            has_left: &self.has_left,
            partner: &mut self.partner,
            parent: vec![None; n_vertices],
            base: (0..n_vertices).collect(),
        };
        search.augment(root);
    }
}

/// The search for an augmenting path.
struct PathSearch<'a> {
    adjacent: &'a dyn Fn(usize, usize) -> bool,
    has_left: &'a [bool],
    partner: &'a mut [Option<usize>],
    /// In the alternating tree: the vertex before an odd vertex.
    parent: Vec<Option<usize>>,
    /// The base of the blossom that each vertex is shrunk into.
    base: Vec<usize>,
}

impl PathSearch<'_> {
    /// Searches an augmenting path from a free vertex and flips it.
    fn augment(&mut self, root: usize) {
        let n_vertices = self.partner.len();
        let mut is_even = vec![false; n_vertices];
        is_even[root] = true;
        let mut queue = VecDeque::from([root]);
        while let Some(v) = queue.pop_front() {
            for w in 0..n_vertices {
                if w == v || self.has_left[w] || !(self.adjacent)(v, w) {
                    continue;
                }
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
                        None => return self.flip(w),
                        Some(next) => {
                            is_even[next] = true;
                            queue.push_back(next);
                        }
                    }
                }
            }
        }
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
