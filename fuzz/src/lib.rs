//! The targets of `crates/proxysql-stonith/tests/fuzz/targets`, as libFuzzer's programs call them.

#[path = "../../crates/proxysql-stonith/tests/fuzz/targets/mod.rs"]
pub mod targets;

#[doc(hidden)]
pub use libfuzzer_sys;

/// A program that runs one target.
#[macro_export]
macro_rules! run {
    ($target:ident) => {
        use $crate::libfuzzer_sys;

        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            $crate::targets::$target(bytes);
        });
    };
}
