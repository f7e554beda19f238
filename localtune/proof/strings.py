"""Texts that tell tokenizers, templates and position encodings apart. They hold no model's control tokens."""

HARD = (
    "",
    " ",
    "   ",
    "\n",
    "\n\n\n",
    "\t\t",
    " \n  \n\t x",
    "a\r\nb\rc",
    "Hello world",
    " Hello world",
    "  Hello  world  ",
    "hello, world!",
    "HELLO WORLD",
    "HelloWorld helloWorld hello_world hello-world",
    "I'm you're he's we'd they'll I've don't",
    "I'M YOU'RE HE'S WE'D THEY'LL I'VE DON'T",
    "'quoted' \"quoted\" `quoted` ‘quoted’ “quoted”",
    "1 12 123 1234 12345 123456 1234567",
    "3.14159 1,000,000 1e-5 0x1F 50% $9.99 #42 12:30",
    "2024-02-29T23:59:59Z",
    "!!! ??? ... ,,, --- *** /// \\\\\\",
    "(a) [b] {c} <d> |e| ~f~ ^g^ =h= +i+",
    "def f(x):\n    return x + 1  # twice\n\n\nclass A:\n\tpass\n",
    'if (a && b || !c) { x += y[i++] << 2; } // "end"',
    '{"key": ["value", 1, 2.5, true, null], "nested": {"a": "b"}}',
    "<html><body class='x'>&amp; &#169;</body></html>",
    "https://example.org/path/to?query=1&other=%20x#part",
    "user@example.org C:\\Users\\x /usr/local/bin ~/.config",
    "The quick brown fox jumps over the lazy dog.",
    "Ünïcödé ñandú façade œuvre straße Ærøskøbing Łódź",
    "cafe\u0301 e\u0301a\u0300 n\u0303",
    "Привет, мир! Как дела?",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "你好，世界！这是一个测试。",
    "こんにちは世界。カタカナとひらがな。",
    "안녕하세요 세계! 한국어 문장입니다.",
    "Tiếng Việt có dấu",
    "😀 😃👍🏽 👩‍👩‍👧‍👦 🇩🇪🇰🇷 ❤️",
    "∑ ∫ √ ≤ ≥ ≠ ∞ π α β → ⇒ ∀x∈ℝ: x² ≥ 0",
    "½ ¼ ² ³ ⅷ ① 一二三 ٣٤٥ １２３",
    "a\u00a0b\u200bc\u2028d",
    "\u0001\u0002\u007f",
    "x" * 300,
    "word " * 60,
    "ﬁ ﬂ Ａ ａ ｶﾅ ㎏ ™ © ® € £ ¥ ₿",
    "end with a space ",
    "end with a newline\n",
)

CONVERSATIONS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "Hello!"),),
    (("user", " leading and trailing blanks "),),
    (("user", "two\nlines\n\nand a half"),),
    (("user", "What is 12 + 30?"), ("assistant", "42"), ("user", "And twice that?")),
    (("system", "You answer in one word."), ("user", "Is water wet?")),
    (
        ("system", "Sé breve. 简短。 짧게."),
        ("user", "¿Qué hora es?"),
        ("assistant", "Las dos, 오후 2시."),
        ("user", "谢谢！😀 Danke."),
    ),
    (("user", '{"a": [1, 2, "x"]}'), ("assistant", "```json\n{}\n```"), ("user", "def f():\n    return 'x'\n")),
    (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
)
"""Turns (role, content) that end with a user's."""

PASSAGES = (
    "The harbour was quiet in the early morning. Two boats had come back during the night, and the gulls were already "
    "walking up and down the wet boards as if they owned them. Nobody had told Marta that the third boat was late, so "
    "she carried the empty baskets out one by one, counted them, and sat down on the last one to wait.",
    "To bake a plain loaf you need 500 g of flour, 350 ml of water, 10 g of salt and 5 g of dry yeast. Mix everything, "
    "let it rest for 30 minutes, fold it four times, and let it rise until it has doubled. Bake it at 230 °C for 35 "
    "minutes. If the crust is too pale, give it another five minutes without the lid.",
    "def moving_average(values, width):\n    total = sum(values[:width])\n    result = [total / width]\n    for i in "
    "range(width, len(values)):\n        total += values[i] - values[i - width]\n        result.append(total / width)\n"
    "    return result\n",
    "Question: A train leaves at 9:15 and arrives at 11:40. How long does it take?\nAnswer: From 9:15 to 11:15 is two "
    "hours, and from 11:15 to 11:40 is 25 minutes, so it takes 2 hours and 25 minutes.\nQuestion: How many minutes is "
    "that?\nAnswer: 2 x 60 + 25 = 145 minutes.",
    "Der Winter kam spät in diesem Jahr. Erst im Januar fiel der erste Schnee, und er blieb nur drei Tage liegen. Die "
    "Kinder bauten trotzdem einen Schneemann, klein und schief, mit zwei Knöpfen als Augen.",
    "En el mercado había naranjas, tomates y un viejo que vendía relojes. «¿Funcionan?», preguntó la niña. «Dos veces "
    "al día», respondió él, «como todos los relojes parados».",
    "今天早上下了一场小雨，街道上没有什么人。卖豆浆的老人把棚子往里挪了挪，给一只湿透的猫留出了地方。",
    "아침에 비가 조금 내렸다. 버스는 십 분 늦게 왔고, 우산을 두고 온 사람들은 처마 밑에 모여 서 있었다.",
)
"""What a model is compared on when it has no rows of its own."""
