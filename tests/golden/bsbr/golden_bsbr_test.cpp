// golden_bsbr_test: every golden number of the BSBR family.
#include "tests/golden/bsbr/golden_attention.h"
#include "tests/golden/bsbr/golden_features.h"
#include "tests/golden/bsbr/golden_models.h"
#include "tests/golden/bsbr/golden_recurrences.h"
#include "tests/golden/bsbr/golden_retrieval.h"
#include "tests/golden/harness.h"
#include "tests/support/device_option.h"
#include "tests/support/simd.h"

int main(int argc, char** argv) {
  using namespace golden;
  sq::test::limit_simd();
  const sq::test::DeviceOption device(argc, argv);
  return run("bsbr", SUBQUAD_GOLDEN_SOURCE "/bsbr",
             {
                 {"attn_bsbr.safetensors", check_bsbr_attention},
                 {"attn_bsbr_compressed.safetensors", check_bsbr_attention},
                 {"attn_deltanet.safetensors", check_attention},
                 {"attn_gau.safetensors", check_gau_attention},
                 {"attn_hopfield.safetensors", check_attention},
                 {"attn_linear.safetensors", check_attention},
                 {"attn_sliding_window.safetensors", check_attention},
                 {"attn_standard.safetensors", check_attention},
                 {"chunk_gated_delta_steps.safetensors", check_delta_chunks},
                 {"feature_maps.safetensors", check_feature_maps},
                 {"gpt2_conversion.safetensors", check_gpt2_conversion},
                 {"model_bsbr.safetensors", check_model},
                 {"model_bsbr_compressed.safetensors", check_model},
                 {"model_deltanet.safetensors", check_model},
                 {"model_gau.safetensors", check_model},
                 {"model_hopfield.safetensors", check_model},
                 {"model_linear.safetensors", check_model},
                 {"model_sliding_window.safetensors", check_model},
                 {"model_standard.safetensors", check_model},
                 {"rec_delta.safetensors", check_recurrence},
                 {"rec_forgetting_attn.safetensors", check_recurrence},
                 {"rec_gated_delta.safetensors", check_recurrence},
                 {"rec_gla.safetensors", check_recurrence},
                 {"rec_kda.safetensors", check_recurrence},
                 {"rec_linear.safetensors", check_recurrence},
                 {"rec_linear_normalized.safetensors", check_recurrence},
                 {"rec_retention.safetensors", check_recurrence},
                 {"rec_simple_gla.safetensors", check_recurrence},
                 {"rec_ssd.safetensors", check_recurrence},
             });
}
