//! Histories that others recorded, judged as they are known to be; and what is no history, refused.

use std::path::{Path, PathBuf};

use super::{Judged, Model, judge, print, read, read_bytes};
use crate::checker::Verdict;

/// The folder of recorded histories, if it is there; where it is not, says so.
fn recorded(kind: &str) -> Option<PathBuf> {
    super::recorded(kind).map_err(|reason| println!("skipped: {reason}")).ok()
}

fn judged(file: &Path) -> Result<Judged, String> {
    let read = read(file, None).map_err(|refusal| refusal.to_string())?;
    judge(read, None).map_err(|refusal| refusal.to_string())
}

fn check_file(file: &Path, linearizable: bool) {
    let judged = judged(file).unwrap_or_else(|reason| panic!("{}: {reason}", file.display()));
    let expected = if linearizable { Verdict::Kept } else { Verdict::Broken };
    assert_eq!(judged.report().verdict, expected, "{}", file.display());
}

/// Every register log of the folder has the verdict of `expected.csv`.
#[test]
fn recorded_registers() {
    let Some(folder) = recorded("register") else { return };
    let expected = std::fs::read_to_string(folder.join("expected.csv")).expect("the verdicts");
    let mut count = 0;
    for line in expected.lines().skip(1).filter(|line| !line.is_empty()) {
        let (file, verdict) = line.split_once(',').expect("a file and a verdict");
        check_file(&folder.join(file), verdict.trim() == "true");
        count += 1;
    }
    println!("{count} register logs judged as expected");
    assert!(count > 0, "no verdict in expected.csv");
}

/// Every key-value log of the folder has the verdict in its name.
#[test]
fn recorded_texts() {
    let Some(folder) = recorded("kv") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let file = entry.expect("an entry").path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        check_file(&file, name.contains("-ok"));
        count += 1;
    }
    println!("{count} key-value logs judged as expected");
    assert!(count > 0, "no log in the folder");
}

/// What `sim check` prints of a history.
fn told(text: &str) -> String {
    match read_bytes(text.as_bytes().to_vec(), None).and_then(|read| judge(read, None)) {
        Err(refusal) => refusal.to_string(),
        Ok(judged) => match &judged.finding {
            super::Finding::Generic(judgement) => print::generic_text(judgement),
            super::Finding::Etcd(report, operations) => {
                crate::checker::render::report(report, operations)
            }
        },
    }
}

/// A Jepsen log and the same in EDN tell the same, but for what a refused `cas` means.
#[test]
fn formats() {
    let log = "INFO  jepsen.util - 0\t:invoke\t:write\t1\n\
               INFO  jepsen.util - 0\t:ok\t:write\t1\n\
               INFO  jepsen.util - 1   :invoke :cas    [1 2]\n\
               INFO  jepsen.util - 1   :fail   :cas    [1 2]\n\
               INFO  jepsen.util - 2   :invoke :read   nil\n\
               INFO  jepsen.util - 2   :fail   :read   :timed-out\n\
               INFO  jepsen.util - 7   :invoke :write  3\n\
               INFO  jepsen.util - 7   :info   :write  :timed-out\n";
    let edn = "[{:process 0, :type :invoke, :f :write, :value 1}\n\
               {:process 0 :type :ok :f :write :value 1}\n\
               {:process :nemesis, :type :info, :f :start, :value nil}\n\
               {:process 1, :type :invoke\n :f :cas, :value [1 2]}\n\
               {:process 1, :type :fail, :f :cas, :value [1 2]}\n\
               {:process 2, :type :invoke, :f :read}]";
    insta::assert_snapshot!(format!("{}\n{}", told(log), told(edn)));
}

/// What is no history is refused with a line and a reason.
#[test]
fn refusals() {
    let check = |text: &str, expected: &str| assert_eq!(told(text), expected, "{text}");
    let log = |lines: &[&str]| -> String {
        lines.iter().map(|line| format!("INFO  jepsen.util - {line}\n")).collect()
    };
    check("", "line 1: the file is empty");
    check(" \n\n", "line 1: the file is empty");
    check("\nhello", "line 2: `hello` begins no history: neither JSON nor EDN nor a Jepsen log");
    check("{\"op\":1", "line 1: EOF while parsing an object (column 7)");
    check(
        "{\"ClientId\":1,\"Input\":{\"Type\":\"range\",\"Range\":{}},\"Call\":1,\"Output\":{\"Error\":\"x\"},\"Return\":2}\n\n\
         {\"ClientId\":1,\"Input\":{\"Type\":\"jump\"},\"Call\":3,\"Output\":{},\"Return\":4}",
        "line 3: unknown type of request \"jump\"",
    );
    check("[]", "there is no operation in it");
    check("[1 2]", "line 1: `1` is not an event, which is a map");
    check("[{:process 1}", "line 1: the event has no :type");
    check("[\n{:process 1 :type :invoke :f :read}", "line 2: the `[` of line 1 is never closed");
    check(
        "{:process 1 :type :ok :f :read :value 1}",
        "line 1: process 1 returns from :read without having invoked it",
    );
    check(
        "{:process 1 :type :invoke :f :read}\n{:process 1 :type :invoke :f :write :value 1}",
        "line 2: process 1 invokes a second operation while :read of line 1 is under way",
    );
    check("{:process 1 :type :invoke :f :jump}", "line 1: unknown :f :jump; no model has it");
    check(
        "{:process 1 :type :invoke :f :read}\n{:process 2 :type :invoke :f :jump}",
        "line 2: unknown :f :jump; this model has :read and :write",
    );
    check(
        "{:process 1 :type :done :f :read}",
        "line 1: the :type is not :invoke, :ok, :fail or :info",
    );
    check(
        "{:process 1 :type :invoke :f :write :value 1}\n{:process 1 :type :ok :f :write :value 2}",
        "line 1: :write 1 is answered with 2 on line 2",
    );
    check(
        &log(&["0 :invoke :read nil", "0 :ok :write 1"]),
        "line 2: process 0 returns from :write, but invoked :read on line 1",
    );
    check(&log(&["x :invoke :read nil"]), "line 1: `x` is not the number of a process");
    check(&log(&["0 :invoke :cas 1"]), "line 1: `1` is not a pair");
    check(&log(&["0 :invoke :cas [1"]), "line 1: the `[` of line 1 is never closed");
    check(&log(&["0 :invoke :write"]), "line 1: the value is missing");
    check(
        &(log(&["0 :invoke :read nil"]) + "what?"),
        "line 2: `what?` is not a line of a Jepsen log",
    );
    let deep = format!("{{:process 1 :type :invoke :f :write :value {}", "[".repeat(1_000_000));
    check(&deep, "line 1: nested deeper than 64");
    let binary =
        read_bytes(vec![b'[', b'\n', 0xff, 0xfe], None).err().map(|refusal| refusal.to_string());
    assert_eq!(binary.as_deref(), Some("line 2: not text in UTF-8"));
}

/// Any prefix and any damaged byte of a good file gives a verdict or a refusal, never a panic.
#[test]
fn damage() {
    let good = "[{:process 0, :type :invoke, :f :cas, :value [1 2]} ; why\n\
                #_ 3 {:process \"a\\n\", :type :invoke, :f :read, :value #{1 nil}}\n\
                {:process 0, :type :info, :f :cas, :error \\a :time 1.5e300}]";
    let mut refused = 0;
    for at in 0..good.len() {
        for byte in [None, Some(b'"'), Some(b']'), Some(b'#'), Some(b'\\'), Some(0), Some(0xc3)] {
            let mut bytes = good.as_bytes().to_vec();
            match byte {
                None => bytes.truncate(at),
                Some(byte) => bytes[at] = byte,
            }
            let judged =
                read_bytes(bytes, None).and_then(|read| judge(read, Some(Model::CasRegister)));
            refused += u32::from(judged.is_err());
        }
    }
    assert!(refused > 100, "most damage is noticed: {refused}");
}

/// Makes EDN from lines of `process f value → answer`; operations follow each other, or overlap where a line
/// gives only the call (`process f value`) or only the end (`process f → answer`); `?` for an unknown end.
fn edn(lines: &str) -> String {
    let mut edn = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (asked, answer) = match line.split_once(" → ") {
            Some((asked, answer)) => (asked, Some(answer)),
            None => (line, None),
        };
        let mut words = asked.splitn(3, ' ');
        let (process, f) = (words.next().expect("a process"), words.next().expect("an :f"));
        let (key, f) = match f.split_once('/') {
            Some((f, key)) => (format!(":key {key:?} "), f),
            None => (String::new(), f),
        };
        let event = |kind: &str, value: &str| {
            format!("{{:process {process} :type {kind} :f :{f} {key}:value {value}}}\n")
        };
        let value = words.next();
        if let Some(value) = value {
            edn += &event(":invoke", value);
        }
        match answer {
            Some("?") => edn += &event(":info", "nil"),
            Some(answer) => edn += &event(":ok", answer),
            None => {}
        }
    }
    edn
}

/// A read that misses a write that was acknowledged before it began; a write of unknown outcome does not help.
#[test]
fn stale_register() {
    insta::assert_snapshot!(told(&edn("
        1 write 1 → 1
        2 write 2 → 2
        4 write 4 → ?
        3 read nil → 2
        1 cas [2 3] → [2 3]
        2 read nil → 1
        ")));
}

/// An append that was acknowledged is missing.
#[test]
fn lost_append() {
    insta::assert_snapshot!(told(&edn("
        1 append/a \"x\" → \"x\"
        2 append/b \"z\" → \"z\"
        2 append/a \"y\"
        1 append/a \"w\" → \"w\"
        3 get/a nil → \"xyw\"
        2 append/a → \"y\"
        3 get/a nil → \"xy\"
        ")));
}

/// Two values leave a queue in the wrong order.
#[test]
fn queue_out_of_order() {
    insta::assert_snapshot!(told(&edn("
        1 enqueue 1 → 1
        2 enqueue 2 → 2
        1 enqueue 3
        2 dequeue nil → 2
        1 enqueue → 3
        2 dequeue nil → 1
        ")));
}

/// Two hold a lock at once.
#[test]
fn lock_held_twice() {
    insta::assert_snapshot!(told(&edn("
        1 acquire nil → nil
        1 release nil → nil
        2 acquire nil
        3 acquire nil
        2 acquire → nil
        3 acquire → nil
        ")));
}

/// A read of a whole set misses an element.
#[test]
fn set_misses_an_element() {
    insta::assert_snapshot!(told(&edn("
        1 add 1 → 1
        2 add 2 → 2
        3 add 3 → ?
        1 read nil → #{1 3}
        ")));
}

/// Two reads of two registers see two writes in different orders.
#[test]
fn long_fork() {
    insta::assert_snapshot!(told(&edn("
        9 txn [[:write :x 0][:write :y 0]] → [[:write :x 0][:write :y 0]]
        1 txn [[:write :x 1]]
        2 txn [[:write :y 1]]
        3 txn [[:read :x nil][:read :y nil]] → [[:read :x 1][:read :y 0]]
        4 txn [[:read :x nil][:read :y nil]] → [[:read :x 0][:read :y 1]]
        1 txn → [[:write :x 1]]
        2 txn → [[:write :y 1]]
        ")));
}

/// A good history is kept, with an order.
#[test]
fn kept_with_an_order() {
    insta::assert_snapshot!(told(&edn("
        1 write 1
        2 write 2
        3 read nil → 2
        3 read nil → 1
        1 write → 1
        2 write → 2
        ")));
}

/// A report of etcd's robustness tests: what it leaves out is filled in, and a stale read is found.
#[test]
fn robustness_report() {
    let put = |client: u32, call: u64, value: &str, revision: i64| {
        format!(
            r#"{{"ClientId":{client},"Input":{{"Type":"txn","Txn":{{"Conditions":null,"OperationsOnSuccess":[{{"Type":"put-operation","Put":{{"Key":"a","Value":{{"Value":"{value}"}},"LeaseID":0}}}}],"OperationsOnFailure":null}}}},"Call":{call},"Output":{{"Txn":{{"Failure":false,"Results":[{{"KVs":null,"Count":0,"Deleted":0}}]}},"Revision":{revision},"member-id":"8e9e05c52164694d"}},"Return":{}}}
"#,
            call + 50
        )
    };
    let get = |call: u64, value: &str, modified: i64, version: i64, revision: i64| {
        format!(
            r#"{{"ClientId":3,"Input":{{"Type":"range","Range":{{"Start":"a","End":"","Limit":0,"Revision":0}}}},"Call":{call},"Output":{{"Range":{{"KVs":[{{"Key":"a","Value":{value},"ModRevision":{modified},"Version":{version}}}],"Count":1}},"Revision":{revision}}},"Return":{}}}
"#,
            call + 50
        )
    };
    let unknown = r#"{"ClientId":4,"Input":{"Type":"txn","Txn":{"OperationsOnSuccess":[{"Type":"put-operation","Put":{"Key":"a","Value":{"Value":"lost"}}}]}},"Call":150,"Output":{"Error":"etcdserver: request timed out"},"Return":160}
"#;
    let long = "a value of more than twenty bytes";
    let good = put(1, 100, long, 2)
        + unknown
        + &put(2, 200, "second", 4)
        + &get(300, r#"{"Value":"second"}"#, 4, 3, 4);
    let hash = format!("{{\"Hash\":{}}}", 684236440_u32);
    let stale = format!("{good}{}", get(400, &hash, 2, 1, 2));
    insta::assert_snapshot!(format!("{}\n{}\n{}", told(&good), told(&stale), told(&good[..500])));
}
