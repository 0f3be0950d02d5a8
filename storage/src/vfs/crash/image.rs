//! The contents of one simulated file: sparse pages, cheap to copy.

use std::sync::Arc;

const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Contents; pages that were never written are absent and read zeros.
#[derive(Clone, Default)]
pub(super) struct Image {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    len: u64,
}

/// The parts of `start..end` that lie in one page each: page, offset within it, length.
fn spans(start: u64, end: u64) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut at = start;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (page, within) = ((at / PAGE as u64) as usize, (at % PAGE as u64) as usize);
            let length = (PAGE - within).min((end - at) as usize);
            at += length as u64;
            (page, within, length)
        })
    })
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let length = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        for (page, within, length) in spans(offset, offset + length as u64) {
            let target = &mut buffer[done..done + length];
            match self.pages.get(page) {
                Some(Some(bytes)) => target.copy_from_slice(&bytes[within..within + length]),
                _ => target.fill(0),
            }
            done += length;
        }
        length
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.grow(offset + bytes.len() as u64);
        let mut done = 0;
        for (page, within, length) in spans(offset, offset + bytes.len() as u64) {
            let source = &bytes[done..done + length];
            done += length;
            self.page(page)[within..within + length].copy_from_slice(source);
        }
    }

    pub(super) fn write_zeros(&mut self, offset: u64, length: u64) {
        self.grow(offset + length);
        for (page, within, length) in spans(offset, offset + length) {
            if let Some(bytes) = &mut self.pages[page] {
                Arc::make_mut(bytes)[within..within + length].fill(0);
            }
        }
    }

    /// Cuts or extends the file; what is cut off reads zeros if the file grows again.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let cut = self.len;
            self.write_zeros(len, cut - len);
            self.pages.truncate(len.div_ceil(PAGE as u64) as usize);
            self.len = len;
        } else {
            self.grow(len);
        }
    }

    fn grow(&mut self, len: u64) {
        if len > self.len {
            self.len = len;
            self.pages.resize(len.div_ceil(PAGE as u64) as usize, None);
        }
    }

    fn page(&mut self, page: usize) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// One write that no sync has followed yet.
#[derive(Clone)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) bytes: Written,
}

/// What was written; runs of zeros, as preallocation makes them, are kept as their length.
#[derive(Clone)]
pub(super) enum Written {
    Zeros(u64),
    Data(Arc<[u8]>),
}

impl Write {
    pub(super) fn new(bytes: &[u8], offset: u64) -> Write {
        let zeros = bytes.len() >= PAGE && bytes.chunks(PAGE).all(|page| *page == ZEROS[..page.len()]);
        let bytes = if zeros {
            Written::Zeros(bytes.len() as u64)
        } else {
            Written::Data(bytes.into())
        };
        Write { offset, bytes }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.bytes {
            Written::Zeros(length) => *length,
            Written::Data(bytes) => bytes.len() as u64,
        }
    }

    /// Writes the bytes `start..end` of this write.
    pub(super) fn apply_part(&self, image: &mut Image, start: u64, end: u64) {
        match &self.bytes {
            Written::Zeros(_) => image.write_zeros(self.offset + start, end - start),
            Written::Data(bytes) => image.write(&bytes[start as usize..end as usize], self.offset + start),
        }
    }

    pub(super) fn apply(&self, image: &mut Image) {
        self.apply_part(image, 0, self.len());
    }
}
