//! A message with its structs found and checked: what a generator needs to know beyond the text.
//!
//! Structs are listed flat, the message itself first. A struct that an array can hold has at least one byte in every
//! version, which is what lets a decoder bound the count of elements by the bytes that are left.

use crate::model::{Field, Message, Type};
use crate::versions::Versions;

/// A message and all of its structs.
#[derive(Debug)]
pub struct Tree<'m> {
    /// The message.
    pub message: &'m Message,
    /// The message itself as a struct, then every other in the order of declaration.
    pub nodes: Vec<Node<'m>>,
}

/// A struct of the tree.
#[derive(Debug)]
pub struct Node<'m> {
    /// Its name, also in Rust.
    pub name: &'m str,
    /// The versions in which it is used.
    pub versions: Versions,
    /// Its fields.
    pub fields: &'m [Field],
    /// Holds text, bytes or records, itself or further down, and so borrows from the frame.
    pub borrows: bool,
}

impl<'m> Tree<'m> {
    /// Finds every struct and checks what the notation alone can not.
    pub fn new(message: &'m Message) -> Result<Tree<'m>, String> {
        let mut nodes = vec![Node {
            name: &message.name,
            versions: message.versions,
            fields: &message.fields,
            borrows: false,
        }];
        collect(&message.fields, &mut nodes);
        for shared in &message.structs {
            nodes.push(Node {
                name: &shared.name,
                versions: shared.versions,
                fields: &shared.fields,
                borrows: false,
            });
            collect(&shared.fields, &mut nodes);
        }
        let mut tree = Tree { message, nodes };
        tree.check()?;
        // A struct borrows if one of its structs does: ask as often as they can be nested.
        for _ in 0..tree.nodes.len() {
            for index in 0..tree.nodes.len() {
                tree.nodes[index].borrows =
                    tree.nodes[index].fields.iter().any(|field| tree.borrows(&field.kind));
            }
        }
        Ok(tree)
    }

    /// The struct of that name.
    ///
    /// # Panics
    /// If there is none; [`Tree::new`] has checked every name that occurs in the tree.
    pub fn node(&self, name: &str) -> &Node<'m> {
        self.find(name).unwrap_or_else(|| panic!("{}: no struct {name}", self.message.name))
    }

    /// Does a value of this type borrow from the frame?
    pub fn borrows(&self, kind: &Type) -> bool {
        match kind {
            Type::String | Type::Bytes | Type::Records => true,
            Type::Array(element) => self.borrows(element),
            Type::Struct(name) => self.node(name).borrows,
            _ => false,
        }
    }

    /// The fewest bytes that an element of this type takes in any of `versions`.
    pub fn size_min(&self, kind: &Type, versions: Versions) -> usize {
        let sizes =
            versions.iter().map(|version| self.size_at(kind, self.message.is_flexible(version), version));
        sizes.min().unwrap_or(0)
    }

    fn size_at(&self, kind: &Type, compact: bool, version: i16) -> usize {
        match kind {
            Type::Bool | Type::I8 => 1,
            Type::I16 | Type::U16 => 2,
            Type::I32 | Type::U32 => 4,
            Type::I64 | Type::F64 => 8,
            Type::Uuid => 16,
            Type::String => {
                if compact {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Records | Type::Array(_) => {
                if compact {
                    1
                } else {
                    4
                }
            }
            Type::Struct(name) => {
                let present = |field: &&Field| field.versions.contains(version) && field.tag.is_none();
                let fields = self.node(name).fields.iter().filter(present);
                let size = fields.map(|field| match (&field.kind, field.nullable) {
                    (Type::Struct(_), Some(nullable)) if nullable.contains(version) => 1,
                    _ => self.size_at(&field.kind, compact && !field.plain, version),
                });
                size.sum::<usize>() + usize::from(self.message.is_flexible(version))
            }
        }
    }

    fn find(&self, name: &str) -> Option<&Node<'m>> {
        self.nodes.iter().find(|node| node.name == name)
    }

    fn check(&self) -> Result<(), String> {
        let message = self.message;
        let fail = |reason: String| Err(format!("{}: {reason}", message.name));
        for (index, node) in self.nodes.iter().enumerate() {
            if self.nodes[..index].iter().any(|other| other.name == node.name) {
                return fail(format!("struct {} is declared twice", node.name));
            }
            if self.depth(node, 0).is_none() {
                return fail(format!("struct {} contains itself", node.name));
            }
        }
        for node in &self.nodes {
            for field in node.fields {
                let place = format!("{}.{}", node.name, field.name);
                if let Some(name) = field.kind.struct_name() {
                    let used = self.node(name).versions;
                    if !used.covers(field.versions) {
                        return fail(format!("{place}: {name} exists only in versions {used}"));
                    }
                }
                if let Type::Array(element) = &field.kind
                    && self.size_min(element, field.versions) == 0
                {
                    return fail(format!(
                        "{place}: its elements can be empty, so that their count has no bound"
                    ));
                }
                if field.tag.is_some() && !message.is_flexible(field.versions.min) {
                    return fail(format!("{place}: tagged where the message is not flexible"));
                }
                if field.tag.is_some() && field.kind == Type::Records {
                    return fail(format!("{place}: records can not be tagged"));
                }
            }
            let mut tags: Vec<u32> = node.fields.iter().filter_map(|field| field.tag).collect();
            tags.sort_unstable();
            if tags.windows(2).any(|pair| pair[0] == pair[1]) {
                return fail(format!("struct {}: two fields with the same tag", node.name));
            }
        }
        Ok(())
    }

    /// How deep structs are nested below this one; nothing where they never end or one is missing.
    fn depth(&self, node: &Node<'m>, above: usize) -> Option<usize> {
        if above > self.nodes.len() {
            return None;
        }
        let below = node.fields.iter().filter_map(|field| field.kind.struct_name());
        below
            .map(|name| self.depth(self.find(name)?, above + 1))
            .try_fold(above, |deepest, depth| Some(deepest.max(depth?)))
    }
}

fn collect<'m>(fields: &'m [Field], nodes: &mut Vec<Node<'m>>) {
    for field in fields {
        if let (Some(name), false) = (field.kind.struct_name(), field.fields.is_empty()) {
            nodes.push(Node { name, versions: field.versions, fields: &field.fields, borrows: false });
        }
        collect(&field.fields, nodes);
    }
}
