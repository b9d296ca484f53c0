//! The binary `ottla`; everything is in the library.

fn main() -> std::process::ExitCode {
    ottla_server::main()
}
