// Every operator's signature, and the module stk._C: importing it loads the operators below into
// torch.ops.stk and tells what this build is for. The kernels register themselves per device in
// csrc/<op>/<op>_cpu.cpp and <op>_cuda.cpp.
//
// seed and offset are 0-dim int64 tensors and tau is a 0-dim fp32 tensor, on the host or beside the inputs,
// so that a compiled graph or a CUDA graph takes new values without being made again.
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include "stk_build_info.h"

TORCH_LIBRARY(stk, m) {
  m.def(
      "fbank(Tensor waveforms, Tensor lengths, Tensor? cmvn_mean, Tensor? cmvn_istd, Tensor seed, "
      "Tensor offset, *, float sample_rate, int num_mel_bins, float frame_length, float frame_shift, "
      "str window, float preemphasis, bool remove_dc_offset, float low_freq, float high_freq, "
      "bool use_power, bool snip_edges, float dither, float scale, bool cmvn_utterance) "
      "-> (Tensor features, Tensor lengths)");

  m.def(
      "ctc_shrink(Tensor states, Tensor scores_or_labels, Tensor lengths, *, int blank, str reduce, "
      "str blanks) -> (Tensor states, Tensor lengths, Tensor segments, Tensor weights)");
  m.def(
      "ctc_shrink_backward(Tensor grad, Tensor? states, Tensor? scores, Tensor segments, Tensor weights) "
      "-> (Tensor grad_states, Tensor grad_scores)");

  m.def(
      "gumbel_vq(Tensor logits, Tensor codebook, Tensor tau, Tensor seed, Tensor offset, *, "
      "bool training) -> (Tensor vectors, Tensor codes, Tensor mean_probs, Tensor code_counts, "
      "Tensor stats)");
  m.def(
      "gumbel_vq_backward(Tensor? grad_vectors, Tensor? grad_probs, Tensor logits, Tensor codebook, "
      "Tensor codes, Tensor stats, Tensor tau, Tensor seed, Tensor offset, *, bool training, "
      "bool[2] wanted) -> (Tensor grad_logits, Tensor grad_codebook)");
  m.def(
      "gumbel_vq_linear(Tensor hidden, Tensor weight, Tensor bias, Tensor codebook, Tensor tau, "
      "Tensor seed, Tensor offset, *, bool training) -> (Tensor vectors, Tensor codes, "
      "Tensor mean_probs, Tensor code_counts, Tensor stats)");
  m.def(
      "gumbel_vq_linear_backward(Tensor? grad_vectors, Tensor? grad_probs, Tensor hidden, "
      "Tensor weight, Tensor bias, Tensor codebook, Tensor codes, Tensor stats, Tensor tau, "
      "Tensor seed, Tensor offset, *, bool training, bool[4] wanted) -> (Tensor grad_hidden, "
      "Tensor grad_weight, Tensor grad_bias, Tensor grad_codebook)");

  m.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor? visible, Tensor? query_lengths, "
      "Tensor? seed, Tensor? offset, float scale, float dropout_p) "
      "-> (Tensor output, Tensor logsumexp)");
  // The same without what only the gradient needs: it takes no detour through Python's autograd,
  // which would cost more than a decoding step's attention itself.
  m.def(
      "attention_inference(Tensor query, Tensor key, Tensor value, Tensor? visible, "
      "Tensor? query_lengths, Tensor? seed, Tensor? offset, float scale, float dropout_p) -> Tensor");
  m.def(
      "attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor output, "
      "Tensor logsumexp, Tensor? visible, Tensor? query_lengths, Tensor? seed, Tensor? offset, "
      "float scale, float dropout_p) -> (Tensor query_grad, Tensor key_grad, Tensor value_grad)");

  // Not public operators: what stk/modules/dropout.py multiplies by on the CPU, and the same with relu.
  m.def("dropout_factors(Tensor like, Tensor seed, Tensor offset, *, int dropped) -> Tensor");
  m.def("relu_dropout_(Tensor(a!) x, Tensor seed, Tensor offset, *, int dropped) -> ()");
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.attr("torch_version") = STK_INFO_TORCH;
  m.attr("cuda_version") = STK_INFO_CUDA;  // empty: CPU kernels only
  m.attr("cuda_archs") = STK_INFO_ARCHS;
  m.attr("compiler") = __VERSION__;
}
