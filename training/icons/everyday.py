"""The most requested concepts in Emojibase's spelling, and their everyday names."""

from __future__ import annotations

_FAVOURITES = """
red heart, pizza, crescent moon, cat face, dog face, star, sun, house, automobile, deciduous tree
blossom, sunflower, rose, smiling face with smiling eyes, grinning face, rocket, red apple
birthday cake, rainbow, fire, robot, ghost, penguin, guitar, snowman, hamburger, butterfly, fish
mushroom, umbrella, strawberry, christmas tree
orange heart, yellow heart, green heart, blue heart, purple heart, green apple
"""

_EVERYDAY = """
red heart, orange heart, yellow heart, green heart, blue heart, purple heart, broken heart
pizza, hamburger, french fries, hot dog, taco, egg, cooking, doughnut, cookie, birthday cake
shortcake, ice cream, soft ice cream, chocolate bar, candy, lollipop, hot beverage, beer mug
wine glass, bread, cheese wedge, red apple, green apple, banana, grapes, watermelon, strawberry
cherries, lemon, tangerine, pineapple, peach, pear, tomato, carrot, broccoli, avocado, ear of corn
crescent moon, full moon, sun, star, rainbow, cloud, snowflake, fire, droplet, water wave
umbrella, high voltage, sunrise, volcano, mountain, snow-capped mountain, snowman
globe showing europe-africa, house, castle, tent, automobile, bus, bicycle, locomotive, airplane
rocket, sailboat, ship, tractor, police car, fire engine, cat, cat face, dog, dog face
mouse face, rabbit face, fox, bear, panda, koala, tiger face, lion, cow face, pig face, frog
monkey face, chicken, penguin, bird, duck, owl, unicorn, horse face, wolf, turtle, snake, fish
tropical fish, whale, dolphin, octopus, butterfly, honeybee, lady beetle, snail, spider, crab
elephant, deciduous tree, evergreen tree, palm tree, cactus, christmas tree, sunflower, rose
tulip, cherry blossom, hibiscus, four leaf clover, maple leaf, mushroom, jack-o-lantern
grinning face, smiling face with smiling eyes, smiling face with heart-eyes
face with tears of joy, winking face, smiling face with sunglasses, crying face, angry face
sleeping face, thinking face, ghost, skull, robot, alien, pile of poo, thumbs up, thumbs down
eyes, crown, ring, gem stone, wrapped gift, balloon, party popper, trophy, soccer ball
basketball, guitar, violin, trumpet, key, locked, bell, light bulb, open book, pencil, scissors
hammer, camera, telephone, mobile phone, laptop, television, alarm clock, hourglass done
envelope, bomb, money bag, t-shirt, jeans, dress, top hat, glasses, high-heeled shoe, teddy bear
anchor, magnet, telescope, candle
"""


def _names(text: str) -> frozenset[str]:
    lines = text.strip().replace("\n", ",")
    return frozenset(name.strip() for name in lines.split(","))


#: Emojibase labels with the largest sampling weights.
FAVOURITES = _names(_FAVOURITES)
#: Emojibase labels with larger sampling weights.
EVERYDAY = _names(_EVERYDAY) | FAVOURITES

#: Emojibase label -> its common names.
SYNONYMS = {
    "automobile": ("car",),
    "deciduous tree": ("tree",),
    "blossom": ("flower",),
    "smiling face with smiling eyes": ("smiley", "happy face"),
    "grinning face": ("smile",),
    "smiling face with heart-eyes": ("heart eyes",),
    "face with tears of joy": ("laughing face",),
    "smiling face with sunglasses": ("cool face",),
    "crying face": ("sad face",),
    "locomotive": ("train",),
    "bicycle": ("bike",),
    "airplane": ("plane",),
    "high voltage": ("lightning",),
    "hot beverage": ("coffee",),
    "beer mug": ("beer",),
    "wine glass": ("wine",),
    "red apple": ("apple",),
    "tangerine": ("orange fruit",),
    "honeybee": ("bee",),
    "lady beetle": ("ladybug",),
    "gem stone": ("diamond",),
    "wrapped gift": ("gift", "present"),
    "jack-o-lantern": ("halloween pumpkin",),
    "doughnut": ("donut",),
    "locked": ("padlock",),
    "soccer ball": ("football",),
    "globe showing europe-africa": ("globe", "earth"),
    "evergreen tree": ("pine tree",),
    "party popper": ("party",),
    "snow-capped mountain": ("snowy mountain",),
    "water wave": ("wave",),
    "droplet": ("water drop",),
    "cat face": ("kitten",),
    "dog face": ("puppy",),
    "rabbit face": ("bunny",),
    "panda": ("panda bear",),
    "pile of poo": ("poop",),
}
