//! The GPU runner: a forward batch through all layers, and the sampling of its logits.

use tch::Tensor;

use super::arena::{self, LayerArena};
use super::batch::GpuBatch;
use super::buffers::{self, Buffers, Capacity};
use super::cascade::CascadePlan;
use super::device_batch::BatchLayout;
use super::graphs::Graphs;
use super::kernel_ops::{KernelOps, check_model};
use super::ops::{Activations, DecodeContexts, Heads, Ops};
use super::prefill::Prefill;
use super::reference::ReferenceOps;
use super::sampling;
use super::settings::GpuSettings;
use super::tuning::{SKINNY_GEMM_MAX_TOKENS, SKINNY_GEMM_TOKENS, graph_rows};
use crate::batch::ForwardBatch;
use crate::error::Error;
use crate::ffi::cuda::context;
use crate::ffi::cuda::stream::{CudaStream, StreamGuard};
use crate::model::{Decoder, Linear};
use crate::sampler::{Drawn, RowSampling};

/// Runs batches of one model.
pub(crate) struct GpuRunner {
    heads: Heads,
    eps: f64,
    ops: Box<dyn Ops>,
    arena: Vec<LayerArena>,
    buffers: Buffers,
    inv_freq: Tensor,
    by_flash: bool,
    shared_attention: bool,
    /// Stream of all work; none on a CPU.
    stream: Option<CudaStream>,
    graphs: Option<Graphs>,
}

impl Drop for GpuRunner {
    fn drop(&mut self) {
        // the GPU may still use this memory; a GPU that failed does not
        let _ = self.wait();
    }
}

impl GpuRunner {
    /// Makes a runner of a model with bf16 activations on a GPU.
    ///
    /// # Errors
    /// [`Error::Device`] where the kernels do not compile or the memory does not suffice;
    /// [`Error::Unsupported`] for shapes that the kernels are not written for.
    pub(crate) fn new(model: &Decoder, settings: &GpuSettings) -> Result<Self, Error> {
        let config = model.config();
        let heads = buffers::heads(config);
        // the weights may still be copied on another stream
        Self::wait_for_weights()?;
        let ops: Box<dyn Ops> = match settings.kernels {
            true => {
                check_model(config, settings.kv)?;
                Box::new(KernelOps::on_gpu(heads, settings.kv, settings.fetch_ahead)?)
            }
            false => Box::new(ReferenceOps { heads }),
        };
        let stream = CudaStream::from_pool()?;
        let mut runner = Self::with_ops(model, settings, ops)?;
        runner.by_flash = settings.kernels;
        // the reference operations read values on the host, which a graph cannot record
        runner.graphs = (settings.graphs && settings.kernels).then(|| Graphs::new(stream));
        runner.stream = Some(stream);
        CudaStream::current()?.synchronize()?;
        Ok(runner)
    }

    /// As `new`, on any device and with the given operations.
    pub(super) fn with_ops(
        model: &Decoder,
        settings: &GpuSettings,
        ops: Box<dyn Ops>,
    ) -> Result<Self, Error> {
        let (config, device) = (model.config(), model.device());
        Ok(Self {
            heads: buffers::heads(config),
            eps: config.rms_norm_eps,
            ops,
            arena: arena::allocate(config, settings.n_blocks, settings.kv, device)?,
            buffers: Buffers::new(config, settings.capacity(), device)?,
            inv_freq: model.inv_freq().shallow_clone(),
            by_flash: false,
            shared_attention: settings.shared_attention,
            stream: None,
            graphs: None,
        })
    }

    /// Waits for weights that were written on libtorch's current stream, which is not the runner's.
    pub(crate) fn wait_for_weights() -> Result<(), Error> {
        context::enter()?;
        CudaStream::current()?.synchronize()
    }

    /// Waits for the work of the runner's own stream.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        self.stream.map_or(Ok(()), |stream| stream.synchronize())
    }

    fn enter(&self) -> Result<Option<StreamGuard>, Error> {
        match &self.stream {
            Some(stream) => {
                context::enter()?;
                stream.enter().map(Some)
            }
            None => Ok(None),
        }
    }

    /// Computes a batch: logits of the wanted tokens, [wanted, V rounded up to 8] bf16, in memory
    /// that the next batch overwrites.
    ///
    /// # Errors
    /// What libtorch or the driver refuses.
    pub(crate) fn forward(
        &mut self,
        model: &Decoder,
        batch: &ForwardBatch,
    ) -> Result<Tensor, Error> {
        let _no_grad = tch::no_grad_guard();
        let table = GpuBatch::new(batch);
        self.grow(model, &table)?;
        let _stream = self.enter()?;
        let n_decoding = table.decoding.len();
        let sharing = self.shared_attention.then(|| CascadePlan::of(&table.decoding)).flatten();
        let is_shared = sharing.is_some();
        let mut graphs = self.graphs.take();
        let by_graph = table.is_plain_decode() && Graphs::takes(n_decoding);
        let n_rows = if by_graph && graphs.is_some() { graph_rows(n_decoding) } else { n_decoding };
        let layout = BatchLayout { n_tokens: table.n_tokens().max(n_rows), n_rows, is_shared };
        let loaded = self.buffers.numbers.load(layout, &table, sharing.as_ref());
        let done = loaded.and_then(|()| match &mut graphs {
            Some(graphs) if by_graph => {
                graphs.run((n_rows, is_shared), || self.decode(model, layout))
            }
            _ => self.step(model, &table, layout),
        });
        self.graphs = graphs;
        done?;
        self.buffers.logits(table.wanted.len() as i64)
    }

    /// Enlarges the buffers where a batch is larger than any before, and drops the recorded graphs.
    fn grow(&mut self, model: &Decoder, table: &GpuBatch) -> Result<(), Error> {
        let had = self.buffers.capacity;
        let wanted = Capacity {
            n_tokens: had.n_tokens.max(table.n_tokens()),
            n_rows: had.n_rows.max(graph_rows(table.decoding.len().max(table.wanted.len()))),
            n_spans: had.n_spans.max(table.longest()),
            n_gathered: had.n_gathered.max(table.longest_prefill()),
        };
        if had != wanted {
            // running work still uses the old buffers
            self.wait()?;
            if let Some(graphs) = &mut self.graphs {
                graphs.clear();
            }
            let device = model.device();
            self.buffers = Buffers::new(model.config(), Capacity::default(), device)?;
            self.buffers = Buffers::new(model.config(), wanted, device)?;
            if self.stream.is_some() {
                CudaStream::current()?.synchronize()?;
            }
        }
        Ok(())
    }

    /// Computes a step of decoding rows only, all with wanted logits.
    fn decode(&self, model: &Decoder, layout: BatchLayout) -> Result<(), Error> {
        let n = layout.n_rows as i64;
        self.embed(model, layout)?;
        let decoding = self.buffers.numbers.contexts(layout)?;
        self.layers(model, layout, Some(&decoding), &[])?;
        self.head(model, &self.buffers.residual(n)?, &self.buffers.added(n)?)
    }

    /// Computes any other step.
    fn step(&self, model: &Decoder, table: &GpuBatch, layout: BatchLayout) -> Result<(), Error> {
        let n = layout.n_tokens as i64;
        let decoding = match layout.n_rows {
            0 => None,
            _ => Some(self.buffers.numbers.contexts(layout)?),
        };
        self.embed(model, layout)?;
        let (rows, most) = (&table.prefilling, self.buffers.capacity.n_gathered);
        let prefill = Prefill::groups(rows, most, model.embedding(), self.by_flash)?;
        self.layers(model, layout, decoding.as_ref(), &prefill)?;
        if table.wanted.is_empty() {
            return Ok(());
        }
        let wanted = Tensor::f_from_slice(&table.wanted)?.f_to_device(model.device())?;
        let of_wanted = |x: Tensor| x.f_index_select(0, &wanted);
        self.head(
            model,
            &of_wanted(self.buffers.residual(n)?)?,
            &of_wanted(self.buffers.added(n)?)?,
        )
    }

    /// Writes the tokens' embeddings to the residual stream.
    fn embed(&self, model: &Decoder, layout: BatchLayout) -> Result<(), Error> {
        let n = layout.n_tokens as i64;
        let (rows, tokens) = (self.buffers.added(n)?, self.buffers.numbers.tokens(layout)?);
        let _ = model.embedding().f_index_select_out(&rows, 0, &tokens)?;
        self.buffers.residual(n)?.f_copy_(&rows)?;
        Ok(())
    }

    /// Computes all layers. The last layer's output is not yet added to the residual stream.
    fn layers(
        &self,
        model: &Decoder,
        layout: BatchLayout,
        decoding: Option<&DecodeContexts>,
        prefill: &[Prefill],
    ) -> Result<(), Error> {
        let (buffers, n) = (&self.buffers, layout.n_tokens as i64);
        let (residual, added, qkv) = (buffers.residual(n)?, buffers.added(n)?, buffers.qkv(n)?);
        let (positions, slots) =
            (buffers.numbers.positions(layout)?, buffers.numbers.slots(layout)?);
        let gate_up = buffers.gate_up(n)?;
        let intermediate = gate_up.size()[1] / 2;
        let mut more = None;
        for (layer, arena) in model.layers().iter().zip(&self.arena) {
            let input = self.input(&layer.qkv, n, residual.size()[1])?;
            let next = Some(&layer.qkv);
            self.ops.rmsnorm_residual(
                &residual,
                more,
                &layer.input_norm,
                self.eps,
                &input,
                next,
            )?;
            self.product(&layer.qkv, &input, &qkv)?;
            let norms = layer.head_norms.as_ref();
            self.ops.rope_append(&qkv, &positions, &self.inv_freq, &slots, norms, arena)?;
            let attended = self.input(&layer.output, n, self.heads.q_width())?;
            self.attend(&qkv, arena, decoding, prefill, &attended, &layer.output)?;
            self.product(&layer.output, &attended, &added)?;
            let input = self.input(&layer.gate_up, n, residual.size()[1])?;
            let (attended, next) = (Some(&added), Some(&layer.gate_up));
            self.ops.rmsnorm_residual(
                &residual,
                attended,
                &layer.post_norm,
                self.eps,
                &input,
                next,
            )?;
            self.product(&layer.gate_up, &input, &gate_up)?;
            let activated = self.input(&layer.down, n, intermediate)?;
            self.ops.silu_mul(&gate_up, &activated, Some(&layer.down))?;
            self.product(&layer.down, &activated, &added)?;
            more = Some(&added);
        }
        Ok(())
    }

    /// Memory for the inputs of a product, in the number format that its matrix takes.
    fn input(&self, linear: &Linear, n: i64, width: i64) -> Result<Activations, Error> {
        self.buffers.activations(n, width, linear.scale.is_some())
    }

    /// Attention of the decoding rows, which come first, and of the prefilling rows.
    fn attend(
        &self,
        qkv: &Tensor,
        arena: &LayerArena,
        decoding: Option<&DecodeContexts>,
        prefill: &[Prefill],
        out: &Activations,
        next: &Linear,
    ) -> Result<(), Error> {
        let n_decoding = decoding.map_or(0, |contexts| contexts.n_spans.size()[0]);
        if let Some(contexts) = decoding {
            let [partial, lse] = self.buffers.partial(n_decoding, contexts.n_all_splits())?;
            self.ops.attend_decode(qkv, arena, contexts, &partial, &lse)?;
            let next = prefill.is_empty().then_some(next);
            self.ops.merge_splits(&partial, &lse, &out.rows(0, n_decoding)?, next)?;
        }
        for group in prefill {
            let gathered = self.buffers.gathered(group.n_gathered())?;
            let attended = group.attend(&*self.ops, qkv, arena, &self.heads, &gathered)?;
            let (start, n) = group.place();
            self.ops.quantize(&attended, &out.rows(start, n)?)?;
        }
        Ok(())
    }

    /// Final norm and output head: `residual` and `added` [w, H] → the first w rows of the logits.
    fn head(&self, model: &Decoder, residual: &Tensor, added: &Tensor) -> Result<(), Error> {
        let head = model.head();
        let n = residual.size()[0];
        let input = self.input(&head, n, residual.size()[1])?;
        let next = Some(&head);
        self.ops.rmsnorm_residual(
            residual,
            Some(added),
            model.final_norm(),
            self.eps,
            &input,
            next,
        )?;
        self.product(&head, &input, &self.buffers.vocab_logits(n)?)
    }

    /// y = x·Wᵀ + b, written to `out` [n, N] bf16. Allocates nothing on a GPU.
    fn product(&self, linear: &Linear, x: &Activations, out: &Tensor) -> Result<(), Error> {
        match x {
            Activations::Plain(x) => {
                let weight = linear.weight.f_transpose(0, 1)?;
                let _ = match &linear.bias {
                    Some(bias) => bias.f_addmm_out(out, x, &weight)?,
                    None => x.f_mm_out(out, &weight)?,
                };
                Ok(())
            }
            Activations::Fp8(values, scale) => {
                let n = values.size()[0];
                match n <= SKINNY_GEMM_TOKENS
                    || (n <= SKINNY_GEMM_MAX_TOKENS && linear.is_refused(n))
                {
                    true => self.ops.gemm_w8a8_skinny(linear, values, scale, out),
                    false => linear.quantized_product(values, scale, out),
                }
            }
        }
    }

    /// Draws one token for each of `draws` from rows of `logits` [B, V].
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the model's output is NaN or infinite.
    pub(crate) fn sample(
        &self,
        logits: &Tensor,
        draws: &[RowSampling],
    ) -> Result<Vec<Drawn>, Error> {
        let _no_grad = tch::no_grad_guard();
        let _stream = self.enter()?;
        sampling::sample(&*self.ops, logits, draws)
    }
}
