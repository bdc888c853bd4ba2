"""Renders chat templates with Hugging Face's own code, for test/chat_template_test.ts.

    python make_renderings.py > renderings.json && deno fmt renderings.json

Needs transformers 5 and jinja2 3.1.
"""

import json

from transformers.utils.chat_template_utils import _compile_jinja_template

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": " Yo\n"},
    {"role": "user", "content": "<b>\"Q\"? é"},
]
SYSTEM = [{"role": "system", "content": "Be brief."}] + TALK
LINES = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
TEMPLATES = [
    LINES,
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }} {% endfor %}",
    "{%- for m in messages -%}\n  {{ m.role }}:  \n  {{- m.content | trim }}\n{%- endfor %}\n",
    "  {% if add_generation_prompt %}\n  yes\n  {% else %}\n  no\n  {% endif %}\nend\n",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content|length %}{% endfor %}{{ ns.n }}",
    "{% for m in messages[1:] %}{{ m.role | upper }},{% endfor %}{% for m in messages[::-1] %}{{ m.role }}{% endfor %}",
    "{{ messages[0] | tojson }} {{ messages[-1].content | tojson }}",
    "{{ messages | map(attribute='role') | join(', ') }}|{{ missing | default('none given') }}",
    "{{ messages[0].content.strip().split('i') | length }}{{ messages[0].content.startswith('H') }}",
    "{{ tools is defined }}{{ eos_token is defined }}{{ 'user' in messages[0].role }}{{ 'x' not in ['x'] }}",
    "{% macro turn(m, tag='t') %}<{{ tag }}>{{ m.content }}</{{ tag }}>{% endmacro %}{{ turn(messages[0]) }}{{ turn(messages[-1], tag='u') }}",
    "{% for m in messages if m.role == 'user' %}{{ loop.length }}{{ m.content }}{% else %}none{% endfor %}",
    "a{# note #}b\n  {# line #}\nc {{- ' d ' -}} e",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ (messages | first).role }}",
    "{{ messages[-1].content.replace('Q', 'answer') }}{{ messages[-1].content | replace('b', 'bb') }}",
    "{% set s %}{{ messages[0].content }}!{% endset %}{{ s * 1 if false else s ~ 1 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}",
    "{{ messages[0].content[:1] }}{{ messages[0].content[-1:] }}{{ range(3) | join('-') }}{{ [1, 2] + [3] }}",
    "{{ 'a\nb' | indent(2) }}{{ {'k': [1, {'z': 2}]} | tojson(indent=2) }}",
    "{% filter upper %}{{ messages[0].role }}{% endfilter %}{{ none is none }}{{ 'A'.lower() ~ 'b'.title() }}",
    "{{ raise_exception('No system: ' + messages[0].role) if messages[0].role == 'system' else 'fine' }}",
    "{{ messages.constructor }}{{ messages[0].__proto__ }}{{ eos_token.prototype }}",
]
made = []
for template in TEMPLATES:
    for messages, prompt in ((TALK, True), (SYSTEM, False)):
        case = {"template": template, "messages": messages, "prompt": prompt}
        try:
            case["text"] = _compile_jinja_template(template).render(
                messages=messages,
                add_generation_prompt=prompt,
                bos_token="<s>",
                eos_token="<|endoftext|>",
            )
        except Exception as error:
            case["raises"] = str(error)
        made.append(case)
print(json.dumps(made, ensure_ascii=False, indent=2))
