"""Engines on an existing Ray cluster: Ray Serve's LLM deployment (vLLM), each replica an application of its own.

    pip install "ray[serve,llm]" and this project, on every node
    serve run docs/deploy/ray_serve.yaml

The gateway then takes `engine.urls: [http://HEAD:8000/engine-0, http://HEAD:8000/engine-1]`. One application per
replica, because an adapter must be on every engine before the first request is answered by it: Ray Serve's own balance
over replicas behind one address would load it on one of them. The app of each is vLLM's own, with its routes for
adapters (Ray Serve's OpenAI ingress has none, and takes adapters from cloud storage alone). Ray restarts a replica that
dies; the gateway sees that it lost its adapters and loads them before it gets traffic again.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer

BASE = "base"  # the base model's name in the engine, as the gateway asks for it
ENGINE = {
    "max_model_len": 4096,
    "max_num_seqs": 256,
    "dtype": "bfloat16",
    "enable_lora": True,
    "max_loras": 2,
    "max_lora_rank": 16,
    "enable_prefix_caching": True,
    "scheduling_policy": "priority",
    "generation_config": "vllm",
}
ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def build(args: dict[str, Any]) -> Application:
    """One engine. `args`: name; model (folder); and where they differ from above: engine (vLLM's arguments), env,
    cpu (true: vLLM's CPU build), deployment (Ray Serve's options)."""
    config = LLMConfig(
        model_loading_config={"model_id": BASE, "model_source": args["model"]},
        engine_kwargs=ENGINE | args.get("engine", {}),
        runtime_env={"env_vars": ENVIRONMENT | args.get("env", {})},
        accelerator_config={"kind": "cpu" if args.get("cpu") else "gpu"},
        deployment_config={"num_replicas": 1, "max_ongoing_requests": 1024} | args.get("deployment", {}),
    )
    return build_llm_deployment(config, deployment_cls=serve.ingress()(LLMServer), name_prefix=f"{args['name']}:")
