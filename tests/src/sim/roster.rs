//! Who takes part: a map whose keys are consecutive numbers. Every event looks somebody up several times.

use std::ops::Index;

use muster_core::id::NodeId;

/// The participants of one kind, numbered from the first one's id on.
#[derive(Debug)]
pub struct Roster<T> {
    first: u64,
    members: Vec<T>,
}

impl<T> Roster<T> {
    /// Nobody yet; the first one will have this id.
    #[must_use]
    pub fn from(first: NodeId) -> Self {
        Self { first: first.0, members: Vec::new() }
    }

    /// Adds the next one.
    pub fn push(&mut self, member: T) {
        self.members.push(member);
    }

    /// All ids, ascending. They don't borrow the roster.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + Clone + use<T> {
        let count = u64::try_from(self.members.len()).unwrap_or(0);
        (self.first..self.first + count).map(NodeId)
    }

    /// Whether somebody has this id.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.get(&id).is_some()
    }

    /// The one with this id.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&T> {
        self.members.get(self.place(*id))
    }

    /// The one with this id, to be changed.
    pub fn get_mut(&mut self, id: &NodeId) -> Option<&mut T> {
        let place = self.place(*id);
        self.members.get_mut(place)
    }

    /// All, by ascending id.
    pub fn values(&self) -> std::slice::Iter<'_, T> {
        self.members.iter()
    }

    /// All, by ascending id, to be changed.
    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.members.iter_mut()
    }

    fn place(&self, id: NodeId) -> usize {
        usize::try_from(id.0.wrapping_sub(self.first)).unwrap_or(usize::MAX)
    }
}

impl<T> Index<NodeId> for Roster<T> {
    type Output = T;

    fn index(&self, id: NodeId) -> &T {
        &self.members[self.place(id)]
    }
}
