//! Planted bugs stay plantable: every patch applies to the server as it is.

use std::path::Path;
use std::process::Command;

/// Every `scenarios/bugs/*/bug.patch` applies to this tree.
#[test]
fn patches_apply() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("scenarios/bugs")).expect("there are bugs") {
        let folder = entry.expect("a folder entry is readable").path();
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(["apply", "--check"])
            .arg(folder.join("bug.patch"))
            .output()
            .expect("git can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", folder.display());
        assert!(folder.join("bug.toml").is_file(), "{} lacks bug.toml", folder.display());
        count += 1;
    }
    assert!(count >= 4, "only {count} bugs found");
}
