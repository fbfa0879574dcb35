"""Chat templates in the manner of GLM's, written for these tests."""

GLM4 = """[gMASK]<sop>{% for item in messages %}{% if item['tools'] is defined %}<|system|>
You may call functions.

# 可用工具{% for tool in item['tools'] %}{% if tool['type'] == 'function' %}

## {{ tool['function']['name'] }}

{{ tool['function'] | tojson(indent=4) }}
在调用上述函数时，请使用 Json 格式表示调用的参数。{% elif tool['type'] == 'python' %}

## python

When you write to `python`, the code is run.{% endif %}{% endfor %}{% endif %}
{%- if item['content'] %}<|{{ item['role'] }}|>{{ item['metadata'] }}
{{ item['content'] }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""

CHATGLM3 = """{% for message in messages %}
    {% if loop.first %}
[gMASK]sop<|{{ message['role'] }}|>
 {{ message['content'] }}
    {%- else %}<|{{ message['role'] }}|>
 {{ message['content'] }}
    {%- endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""

ELABORATE = """{%- macro block(role, text) -%}
<|{{ role }}|>
{{ text.strip() if text is string else text | map(attribute='text') | join(' ') }}
{%- endmacro -%}
{%- set state = namespace(turns=0, seen=[]) -%}
{{- bos_token }}{{ '[gMASK]' ~ '<sop>' ~ 1 ~ eos_token -}}
{%- if tools -%}
  {{- block('system', (tools | tojson) ~ (tools | length) ~ (tools | tojson(indent=2))) -}}
{%- endif -%}
{%- for role, group in messages | groupby('role') -%}
  {%- set state.seen = state.seen + [role] -%}
{%- endfor -%}
{{- '%s of %d roles' % (state.seen | first, state.seen | count) -}}
{%- for message in messages if message.role != 'system' -%}
  {%- if message.content is not defined -%}{%- continue -%}{%- endif -%}
  {%- set state.turns = state.turns + (1 if message.role == 'user' else 0) -%}
  {%- if message.role == 'assistant' -%}
    {%- generation -%}{{- block('assistant', message.content) -}}{%- endgeneration -%}
  {%- else -%}
    {{- block(message['role'], message['content']) -}}
  {%- endif -%}
  {%- for key, value in message.items() | sort if key != 'content' -%}
    {{- '[' + key + '=' + value | string | replace('a', 'A') | upper + ']' -}}
  {%- endfor -%}
{%- endfor -%}
{{- {'turns': state.turns, 'last': messages[-1].content[-3:]} | tojson -}}
{{- '{}/{}'.format(state.turns, messages | length) ~ '-' * 3 ~ 'x\ny' | indent(2) -}}
{%- set tail %}{{ strftime_now('%Y') | length }}{% endset -%}
{{- tail -}}{{- '<|assistant|>' if add_generation_prompt else '' -}}
"""
"""Uses every helper: macro, namespace, generation, continue, dict and list literals, formats."""
