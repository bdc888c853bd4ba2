/**
 * Templates for checkpoints that come without one. A template that is shipped comes first.
 *
 * @module
 */

/** Format of stablelm-zephyr-3b and stablelm-2-zephyr-1_6b: each turn ends with the eos token. */
export const ZEPHYR_TEMPLATE: string = `{%- for turn in messages -%}
{%- if turn.role in ["system", "user", "assistant"] -%}
{{- "<|" + turn.role + "|>\\n" + turn.content + eos_token + "\\n" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>\\n" -}}{%- endif -%}
`;

/** ChatML, as stablelm-2-12b-chat has it: a system message is put first where there is none. */
export const CHATML_TEMPLATE: string = `{%- if not messages or messages[0].role != "system" -%}
{{- "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n" -}}
{%- endif -%}
{%- for turn in messages -%}
{{- "<|im_start|>" + turn.role + "\\n" + turn.content + "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
`;
