//! Rust from messages: the types, their decoders and encoders, and the tables over all of them.
//!
//! The output is meant to compile fast and run straight: no macros, no generics, one `read` and one `write` function
//! for each struct, in which a field that not every version has is one `if` on the version.

mod api;
mod code;
mod decode;
mod encode;
mod types;

use crate::model::{Kind, Message};
use crate::tree::Tree;
use code::Code;

pub use api::{api_keys, metadata_records, testing};

/// The module of one message: its structs, their defaults, decoders and encoders.
pub fn module(message: &Message) -> Result<String, String> {
    let tree = Tree::new(message)?;
    let mut code = Code::default();
    for node in &tree.nodes {
        types::declaration(&mut code, &tree, node);
        types::defaults(&mut code, node);
        let (generics, name) = types::generic_name(node);
        code.line("");
        code.line(format!("impl{generics} {name} {{"));
        decode::read(&mut code, &tree, node);
        code.line("");
        encode::write(&mut code, &tree, node);
        code.lines(["}", ""]);
    }
    types::message_impl(&mut code, &tree);
    let body = code.finish();
    let cow = if body.contains("Cow<") { "use std::borrow::Cow;\n" } else { "" };
    Ok(format!("{cow}use crate::wire;\n\n{body}"))
}

/// The list of modules, one for each message, that include the files `MODULE.rs` of the build directory.
pub fn index(messages: &[Message]) -> String {
    let mut code = Code::default();
    for message in messages {
        let what = match message.kind {
            Kind::Request => "request",
            Kind::Response => "response",
            Kind::Header => "header",
            Kind::Metadata => "metadata record",
            Kind::CoordinatorKey => "coordinator record key",
            Kind::CoordinatorValue => "coordinator record value",
            Kind::Data => "versioned data",
        };
        code.line(format!("/// The {what} {}, versions {}.", message.short_name(), message.versions));
        code.line(format!("pub mod {} {{", message.module()));
        code.line(format!("include!(concat!(env!(\"OUT_DIR\"), \"/{}.rs\"));", message.module()));
        code.line("}");
    }
    code.finish()
}
