// golden_halo_s_test: every golden number of HALO-S.
#include "tests/golden/halo_s/golden_datasets.h"
#include "tests/golden/halo_s/golden_estimators.h"
#include "tests/golden/halo_s/golden_graph.h"
#include "tests/golden/halo_s/golden_layers.h"
#include "tests/golden/halo_s/golden_tokenizers.h"
#include "tests/golden/halo_s/golden_training.h"
#include "tests/golden/harness.h"
#include "tests/support/device_option.h"
#include "tests/support/simd.h"

int main(int argc, char** argv) {
  using namespace golden;
  sq::test::limit_simd();
  const sq::test::DeviceOption device(argc, argv);
  return run("halo_s", SUBQUAD_GOLDEN_SOURCE "/halo_s",
             {{"adamw.safetensors", check_adamw},
              {"baseline_model.safetensors", check_baseline_model},
              {"block.safetensors", check_block},
              {"block_gelu.safetensors", check_block},
              {"datasets.json", check_datasets},
              {"estimators.json", check_estimators},
              {"generate.safetensors", check_generate},
              {"global_attention.safetensors", check_global_attention},
              {"graph.safetensors", check_graph},
              {"graph_causal.safetensors", check_graph_causal},
              {"model.safetensors", check_model},
              {"rope.safetensors", check_rope},
              {"sampling.safetensors", check_sampling},
              {"sparse_attention.safetensors", check_sparse_attention},
              {"sparse_attention_unique.safetensors", check_sparse_attention},
              {"tokenizers.json", check_tokenizers},
              {"trainer.safetensors", check_trainer}});
}
