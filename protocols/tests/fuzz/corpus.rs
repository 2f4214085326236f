//! The inputs that are known to be good.
//!
//! Holds how they are read: files ending in `.hex` are hex digits with comments behind `#`, others
//! are taken as they are. It must not know what they mean. Its invariant: they come in the order of
//! names.

use std::path::Path;

/// The inputs of one target.
pub struct Corpus {
    inputs: Vec<(String, Vec<u8>)>,
}

impl Corpus {
    /// Reads the folder of a target, which has to hold something.
    pub fn read(target: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(target);
        let mut inputs = Vec::new();
        for file in folder
            .read_dir()
            .expect("the corpus has a folder for each target")
        {
            let path = file.expect("the folder is readable").path();
            let bytes = std::fs::read(&path).expect("the file is readable");
            let is_hex = path.extension().is_some_and(|extension| extension == "hex");
            let name = path
                .file_name()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            inputs.push((name, if is_hex { decode_hex(&bytes) } else { bytes }));
        }
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {target} is empty");
        Self { inputs }
    }

    /// Names and bytes.
    pub fn inputs(&self) -> &[(String, Vec<u8>)] {
        &self.inputs
    }
}

fn decode_hex(text: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(text).expect("hex files are text");
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let digits = lines.collect::<String>();
    assert!(digits.len().is_multiple_of(2), "half a byte in a hex file");
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).expect("one line"), 16);
    pairs
        .map(|pair| byte(pair).expect("hex files hold hex digits"))
        .collect()
}
