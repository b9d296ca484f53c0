//! Random bytes of a message, straight from its schema.
//!
//! They owe nothing to the generated code and are therefore its judge: what these functions write, a decoder must
//! read, and its encoder must give back byte for byte. To that end a tagged field is either left out or has a value
//! other than its default, and tags ascend.

use crate::model::{DefaultValue, Field, Message, Type};
use crate::tree::Tree;

/// A small generator (SplitMix64): the same seed, the same bytes.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Dice that fall as the seed says.
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// 64 random bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What is said of the value to be written.
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    /// Anything goes.
    Any,
    /// Not the default of the field.
    Set,
}

/// A random message of the given version.
pub fn bytes(tree: &Tree<'_>, version: i16, dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    Filler { tree, message: tree.message, version, dice }.fields(
        &mut out,
        tree.nodes[0].fields,
        Wish::Any,
        0,
    );
    out
}

/// An unsigned varint, as flexible versions write lengths.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Filler<'t, 'm> {
    tree: &'t Tree<'m>,
    message: &'m Message,
    version: i16,
    dice: &'t mut Dice,
}

impl Filler<'_, '_> {
    /// The fields of a struct. Where it must not be default, neither is any of its untagged fields.
    fn fields(&mut self, out: &mut Vec<u8>, fields: &[Field], wish: Wish, depth: usize) {
        let flexible = self.message.is_flexible(self.version);
        let live = fields.iter().filter(|field| field.versions.contains(self.version));
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = live.partition(|field| field.tag.is_some());
        for field in plain {
            self.field(out, field, flexible && !field.plain, wish, depth);
        }
        if !flexible {
            return;
        }
        let mut tagged: Vec<&Field> = tagged.into_iter().filter(|_| self.dice.once_in(2)).collect();
        tagged.sort_by_key(|field| field.tag);
        put_varint(out, tagged.len() as u64);
        for field in tagged {
            let mut value = Vec::new();
            self.field(&mut value, field, true, Wish::Set, depth);
            put_varint(out, u64::from(field.tag.unwrap_or(0)));
            put_varint(out, value.len() as u64);
            out.extend(value);
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, field: &Field, compact: bool, wish: Wish, depth: usize) {
        let nullable = field.nullable.is_some_and(|nullable| nullable.contains(self.version));
        let null_is_default = field.default == DefaultValue::Null;
        let null = nullable && !(wish == Wish::Set && null_is_default) && self.dice.once_in(4);
        // Where null is the default, or the struct is not to be written as null, any other value will do.
        let wish = if null_is_default { Wish::Any } else { wish };
        match (&field.kind, field.tag) {
            (Type::Struct(_), Some(_)) if nullable => put_varint(out, u64::from(!null)),
            (Type::Struct(_), None) if nullable => out.push(if null { 0xff } else { 1 }),
            _ if null => return null_length(out, &field.kind, compact),
            _ => {}
        }
        if !null {
            self.value(out, &field.kind, compact, wish, field.default, depth);
        }
    }

    fn value(
        &mut self,
        out: &mut Vec<u8>,
        kind: &Type,
        compact: bool,
        wish: Wish,
        default: DefaultValue,
        depth: usize,
    ) {
        let count = self.dice.below(if depth > 2 { 2 } else { 4 }).max(u64::from(wish == Wish::Set));
        match kind {
            Type::Bool => {
                let value = self.dice.once_in(2);
                let set = default != DefaultValue::True;
                out.push(u8::from(if wish == Wish::Set { set } else { value }));
            }
            Type::Uuid => {
                out.extend((self.dice.roll() | 1).to_be_bytes());
                out.extend(self.dice.roll().to_be_bytes());
            }
            Type::F64 => out.extend((self.dice.below(1 << 40) as f64 + 0.5).to_be_bytes()),
            Type::String => {
                let length = self.length(wish);
                put_length(out, length, kind, compact);
                out.extend((0..length).map(|_| b"abcxyz-._019"[self.dice.below(12) as usize]));
            }
            Type::Bytes | Type::Records => {
                let length = self.length(wish);
                put_length(out, length, kind, compact);
                out.extend((0..length).map(|_| self.dice.roll() as u8));
            }
            Type::Array(element) => {
                put_length(out, count as usize, kind, compact);
                for _ in 0..count {
                    self.value(out, element, compact, Wish::Any, DefaultValue::Zero, depth + 1);
                }
            }
            Type::Struct(name) => {
                let fields = self.tree.node(name).fields;
                self.fields(out, fields, wish, depth + 1);
            }
            integer => {
                let bytes = match integer {
                    Type::I8 => 1,
                    Type::I16 | Type::U16 => 2,
                    Type::I32 | Type::U32 => 4,
                    _ => 8,
                };
                let default = match default {
                    DefaultValue::Integer(value) => value,
                    _ => 0,
                };
                let mut value = self.dice.roll() as i64;
                if self.dice.once_in(4) {
                    value = default;
                }
                let low = |value: i64| value.to_be_bytes()[8 - bytes..].to_vec();
                if wish == Wish::Set && low(value) == low(default) {
                    value = default.wrapping_add(1);
                }
                out.extend(low(value));
            }
        }
    }

    /// Mostly short, sometimes of a length that needs a varint of two bytes.
    fn length(&mut self, wish: Wish) -> usize {
        let bound = if self.dice.once_in(20) { 300 } else { 12 };
        self.dice.below(bound).max(u64::from(wish == Wish::Set)) as usize
    }
}

fn put_length(out: &mut Vec<u8>, length: usize, kind: &Type, compact: bool) {
    match kind {
        _ if compact => put_varint(out, length as u64 + 1),
        Type::String => out.extend((length as i16).to_be_bytes()),
        _ => out.extend((length as i32).to_be_bytes()),
    }
}

fn null_length(out: &mut Vec<u8>, kind: &Type, compact: bool) {
    match kind {
        _ if compact => out.push(0),
        Type::String => out.extend((-1i16).to_be_bytes()),
        _ => out.extend((-1i32).to_be_bytes()),
    }
}
