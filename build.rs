//! Links the program so that less of it stays in an agent's memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/layout.ld");
    println!("cargo::rerun-if-env-changed=MUSTER_LAYOUT");
    let set = |key: &str| std::env::var(key).unwrap_or_default();
    if set("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    if set("CARGO_CFG_TARGET_ENV") == "gnu" {
        // Relocations in a hundredth of the space: they are read at every start, and half a
        // megabyte of them would stay. A linker that does not know the option warns and goes on.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // What a running agent uses comes first and together, in the binaries that are published.
    // GNU ld and lld know how to.
    if set("OPT_LEVEL") == "s" && set("MUSTER_LAYOUT") != "none" {
        let directory = set("CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/build/layout.ld");
    }
}
