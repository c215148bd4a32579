"""A real Qwen2 model, small enough to be made on the spot: random weights, its own tokenizer, a ChatML template.

It answers in nonsense, and it answers the same everywhere: enough to compare engines, trainers and formats.
"""

from pathlib import Path

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CORPUS = (
    "Il gatto dorme sul divano mentre fuori piove e il cane aspetta davanti alla porta.",
    "Roma è la capitale d'Italia e conta quasi tre milioni di abitanti.",
    "Scrivi una breve poesia sul mare d'inverno, poi spiega le immagini che hai scelto.",
    "Qual è la differenza tra il congiuntivo e l'indicativo? Fai due esempi.",
    "La ricetta della carbonara richiede uova, guanciale, pecorino e pepe nero.",
    "Spiega in modo semplice come funziona la fotosintesi clorofilliana.",
    "Domani andremo al mercato a comprare frutta, verdura, formaggio e pane fresco.",
    "Perché il cielo è blu? La luce del sole viene diffusa dalle molecole dell'aria.",
    "Traduci in inglese la frase seguente: buongiorno a tutti, come state oggi?",
    "Il Parlamento ha approvato la legge di bilancio con un'ampia maggioranza.",
)


def make_tiny_model(folder: Path, *, seed: int = 0, max_positions: int = 512) -> Path:
    """Save a random Qwen2 chat model of about 100,000 parameters in `folder` (float32) and return the folder.

    Weights depend on `seed` alone. Heads are 32 wide, the least that vLLM's CPU attention takes. Weights are
    drawn wider than Qwen2's 0.02, so that the next token depends on the whole prompt and greedy ties are rare.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        list(CORPUS), vocab_size=600, new_special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False
    )
    tokenizer.chat_template = CHATML
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.model_max_length = max_positions
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=max_positions,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
