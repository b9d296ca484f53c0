//! Member ids: what the client called itself, a dash, and a random UUID drawn from a seeded generator.

/// A splitmix64 generator that prints version 4 UUIDs. The same seed gives the same ids, which lets a simulation replay.
#[derive(Debug, Clone)]
pub(crate) struct MemberIds {
    state: u64,
}

impl MemberIds {
    pub(crate) fn new(seed: u64) -> MemberIds {
        MemberIds { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `PREFIX-xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`; the prefix is the instance id of a static member, else the client id.
    /// Draws until the id is free: a coordinator that was seeded like an earlier one begins with ids that may be in use.
    pub(crate) fn generate(&mut self, prefix: &str, is_free: impl Fn(&str) -> bool) -> String {
        loop {
            let id = self.draw(prefix);
            if is_free(&id) {
                return id;
            }
        }
    }

    /// A UUID alone: the member id of a consumer that left the choice to us.
    pub(crate) fn uuid(&mut self, is_free: impl Fn(&str) -> bool) -> String {
        self.generate("", |id| is_free(&id[1..])).split_off(1)
    }

    fn draw(&mut self, prefix: &str) -> String {
        let high = (self.next() & !0xf000) | 0x4000;
        let low = (self.next() & !(0b11 << 62)) | (0b10 << 62);
        format!(
            "{prefix}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_four_uuids_and_follow_the_seed() {
        let mut ids = MemberIds::new(7);
        let one = ids.generate("consumer-1", |_| true);
        let two = ids.generate("consumer-1", |_| true);
        assert_ne!(one, two);
        assert_eq!(one, MemberIds::new(7).generate("consumer-1", |_| true));
        assert_eq!(
            two,
            MemberIds::new(7).generate("consumer-1", |id| id != one),
            "an id in use is passed over"
        );
        assert_eq!(MemberIds::new(7).uuid(|_| true), one["consumer-1-".len()..]);
        let uuid = one.strip_prefix("consumer-1-").unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
    }
}
