//! What is trained on: a row of tokens, which of them are trained, and the numbers of each.
//!
//! One type for every objective: a mask says which tokens are trained, so that an example, a
//! completion and a conversation of several turns look alike. It knows no tensors.

/// A row of tokens to train on. Lists of numbers have one value per trained token, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingSample {
    /// Token ids, given and trained ones.
    pub tokens: Vec<i64>,
    /// Token by token, whether it is trained. The first token never is: nothing predicts it.
    pub trained: Vec<bool>,
    /// Log-probabilities with which the sampler drew the trained tokens, where they are known.
    pub behaviour: Option<Vec<f32>>,
    /// Log-probabilities under the policy before the first update, where the objective needs them.
    pub old: Option<Vec<f32>>,
    /// Log-probabilities under the reference model, where the objective needs them.
    pub reference: Option<Vec<f32>>,
    /// 1 for trained tokens that the policy loss is taken of, 0 for those that it leaves out; all
    /// where it is missing.
    pub kept: Option<Vec<f32>>,
    /// Advantage of the whole row; 0 where it has none.
    pub advantage: f64,
    /// Advantages of the trained tokens, where they differ within a row.
    pub token_advantages: Option<Vec<f32>>,
    /// Number of the group that the row belongs to, unique in its step.
    pub group: usize,
}

impl TrainingSample {
    /// A prompt of which nothing is trained, followed by a completion of which everything is.
    pub fn of_completion<Id: Copy + Into<i64>>(
        prompt: &[Id],
        completion: &[Id],
        group: usize,
    ) -> Self {
        let tokens = prompt.iter().chain(completion).map(|&token| token.into()).collect();
        let trained = [vec![false; prompt.len()], vec![true; completion.len()]].concat();
        Self { tokens, trained, group, ..Self::default() }
    }

    /// The same row with no token trained: it counts as a row and nowhere else.
    pub fn masked(self) -> Self {
        let none = |numbers: Option<Vec<f32>>| numbers.map(|_| Vec::new());
        let trained = vec![false; self.tokens.len()];
        let (behaviour, old) = (none(self.behaviour), none(self.old));
        let (reference, kept) = (none(self.reference), none(self.kept));
        let token_advantages = none(self.token_advantages);
        Self { trained, behaviour, old, reference, kept, token_advantages, ..self }
    }

    /// Whether a trained token has an advantage.
    pub fn has_advantage(&self) -> bool {
        match &self.token_advantages {
            Some(advantages) => advantages.iter().any(|advantage| *advantage != 0.0),
            None => self.advantage != 0.0,
        }
    }

    /// Number of tokens, given and trained ones.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Number of trained tokens that the policy loss is taken of.
    pub fn n_kept(&self) -> usize {
        match &self.kept {
            Some(kept) => kept.iter().filter(|kept| **kept > 0.0).count(),
            None => self.n_trained(),
        }
    }

    /// Number of trained tokens.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().filter(|is_trained| **is_trained).count()
    }
}
