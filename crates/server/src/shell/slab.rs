//! The connections of one loop, addressed by small keys.
//!
//! The tricky idea: places are reused, so a key carries the generation of its place; an answer or a deadline for a connection that
//! is gone does not reach the one that came after it.

use std::rc::Rc;

/// Names a connection within its loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The place.
    pub index: u32,
    /// How often the place was given away before.
    pub generation: u32,
}

/// Things with keys.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    occupant: Option<Rc<T>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Gives a thing a place.
    pub fn insert(&mut self, occupant: Rc<T>) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, occupant: None });
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 connections")
        });
        let place = &mut self.places[index as usize];
        assert!(place.occupant.is_none(), "a free place is empty");
        place.occupant = Some(occupant);
        Key { index, generation: place.generation }
    }

    /// The thing that `key` names, while it is there.
    pub fn get(&self, key: Key) -> Option<&Rc<T>> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.occupant.as_ref() } else { None }
    }

    /// Frees the place that `key` names.
    pub fn remove(&mut self, key: Key) -> Option<Rc<T>> {
        self.get(key)?;
        let place = &mut self.places[key.index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        place.occupant.take()
    }

    /// Everything that is there.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<T>> {
        self.places.iter().filter_map(|place| place.occupant.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_place_has_a_new_key() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert(Rc::new('a')), slab.insert(Rc::new('b')));
        assert_eq!(slab.remove(a).as_deref(), Some(&'a'));
        let c = slab.insert(Rc::new('c'));
        assert_eq!(c.index, a.index);
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get(b).map(|b| **b), Some('b'));
        assert_eq!(slab.get(c).map(|c| **c), Some('c'));
        assert_eq!(slab.iter().count(), 2);
    }
}
