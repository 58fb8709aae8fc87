"""The stories: openings, episodes and endings in the template language of grammar.py.

Every episode works with any cast, so that a long story is an opening and two or
three episodes.  The repeats are deliberate: whatever a sentence sets (a colour, a
place, a promise), a later sentence asks for.
"""

OPENINGS = [
    """[Once upon a time|Once upon a time|Once upon a time|Long ago|One day], there [was|lived]
    a [little|small|young|kind|brave|clever|cheerful] {A.kind} [named|called] {A}.
    [{A} lived in [a small house|a tiny cottage|a warm little home] near {place3}. |{A} loved {food} [more than anything|very much]. |]{A.He} had
    a [good |best |]friend [named|called] {B}, who was a [shy|funny|clever|gentle|little|happy] {B.kind}.""",
    """Once upon a time, [a little|a young|a small] {A.kind} [named|called] {A} and [a shy|a funny|a clever|a young] {B.kind} [named|called] {B} were [best|good|close]
    friends. [They lived near {place3}.|They played together every day.|{A} liked {food}, and {B} liked {food2}.]""",
    """Once upon a time, in a [small|quiet|little|far away] [village|town|valley], there lived a [little|young|kind]
    {A.kind} [named|called] {A}. {A.His} [best friend|neighbour|good friend] was {B}, a [shy|funny|clever|gentle] {B.kind}.""",
    """[It was a [sunny|cold|windy|quiet|bright] [morning|day|afternoon]|Spring had come|Summer was here]. {A}, a [little|young] {A.kind},
    was [playing|sitting|walking] near {place3} with {A.his} friend {B}, a [shy|funny|clever|gentle|little|happy] {B.kind}.""",
    """{A} was a [little|young|happy|curious] {A.kind} who lived near {place3}. {A.His} best friend was a [shy|funny|clever|gentle|little|happy] {B.kind}
    [named|called] {B}.""",
]

BRIDGES = """The next day|The next morning|A week later|Some days later|Soon after that|One evening|On the following day""".split("|")

ENDINGS = [
    "From that day on, {A} and {B} [were the best of friends|always helped each other|met near {place3} every day].",
    "{A} and {B} [went home happy|laughed and walked home together|smiled and went home].",
    "That night, {A} [slept well and dreamed of {the}|told {A.his} {elder} all about {the}|thought about {the} and smiled].",
    "And they [all |]lived happily ever after.",
    "[It had been a good day|What a day it had been], and {A} [was tired but happy|went to bed with a smile].",
]

# kind: (what {the} means in an ending, the episode, the moral)
EPISODES = {
    "lost": ("the {noun}", """
    {A} had {a thing}. [It was a gift from {A.his} {elder}.|{A.He} took it everywhere.|{A.He} loved it very much.]
    One day, {A.he} [went to|walked to|played at] {place} and lost [it|the {noun}]. {A} [was very sad|began to cry|felt terrible].
    {A.He} looked {spot}, but the {noun} was not there. [{A.He} looked {spot2}, but it was not there either.|]
    Then {A.he} met {B}. "[What is wrong|Why are you sad], {A}?" asked {B}. "I lost my {thing}," said {A}.
    "[Do not worry|Do not cry]. I will help you [look for it|find it]," said {B}.
    They went [back |]to {place} together. {B} looked {spot3}, and there [it was|was the {thing}]!
    "[Look|See], {A}! I found your {noun}," {B.he} said. "It was {spot3}." {A} [was so happy|hugged {B}|jumped for joy].
    "Thank you, {B}," said {A}. [{A.He} held the {noun} tight.|"You are a true friend."|]""",
    "A good friend helps you look."),
    "help": ("{B}", """
    <load=basket|box|bucket|bag of {food}>One [day|morning], {A} heard a [cry|voice] near {place}. "Help! Help!" It was {B}. <trouble=fallen into a deep hole|lost the way home|fallen into the water|stepped on a thorn>{B} had {trouble}. "Do not be afraid," said {A}. "I will help you."
    {A} [ran home and brought|went and found] a [long rope|strong stick|warm blanket] and helped {B} until {B.he} was safe. "Thank you, {A}," said {B}. "One day I will help you too." [Not long after|Some time later], {A} could not
    [carry|lift] {A.his} heavy {load}. {B} saw it and came at once. "You helped me when I had {trouble}," {B.he} said. "Now it is my turn."
    Together they [carried|took] the {load} [home|to {place2}].""",
    "If you help others, they will help you."),
    "wish": ("{A.his} wish", """
    {A} had one wish. <wish=fly like a bird|swim like a fish|sing like a bird|run like the wind|see the sea|touch the moon|climb the highest
    hill>"I want to {wish}," {A.he} said. [Everybody laughed|{B} smiled|Nobody believed {A.him}]. {A} [went|walked] to {place} and met an old {animal}.
    "Why do you look so [sad|thoughtful]?" asked the {animal}. "I want to {wish}," said {A}, "but I do not know how."
    The old {animal} [thought for a while|nodded slowly]. "Go to {place2} and look {spot}," said the {animal}. {A} went to {place2} and looked {spot}.
    There {A.he} found {a thing}. [A note|A small letter] on the {noun} said, "Hold me and close your eyes." {A} held the {noun} and closed
    {A.his} eyes. In {A.his} dream, {A.he} could {wish}. When {A.he} woke up, {A.he} told {B} about it. "Now I know how it feels to {wish}!" {A.he} said.""",
    "Never give up your dreams."),
    "weather": ("the {storm}", """
    <storm=storm|rain|snow|wind>One [day|afternoon], {A} and {B} were [playing|walking] at {place}. Suddenly the sky turned [dark|grey] and the {storm} came.
    "We must [hide|find shelter]!" [said|cried|called] {B}. They ran to {place2} and [hid|sat down] {spot}. {A} was [cold|wet|afraid], so {B}
    gave {A.him} {B.his} {thing}. "Take my {noun}," said {B}. "It will [help|comfort] you." They waited and [told stories|sang songs|ate {food}]
    until the {storm} was over. Then the sun [came out|shone again]. "The {storm} is gone!" [said|cried] {A}. {A.He} gave the {thing} back to {B}.
    "Thank you for your {noun}," {A.he} said. "[Without it I would have been very cold|You are very kind]."
    [They saw a rainbow over {place}.|They went back to {place} and played until evening.]""",
    "After every storm the sun comes back."),
    "market": ("the market", """
    One morning, {A.his} {elder} gave {A} three coins. "Go to the market and buy {food}, {food2} and {food3}," said {A.his} {elder}. "{food}, {food2} and
    {food3}," said {A}. "I will not forget." On the way {A.he} met {B}. "Where are you going?" asked {B}. "I am going to the market to buy {food}, {food2} and
    {food3}," said {A}. "May I come with you?" asked {B}. "Yes, please," said {A}. At the market, {A.he} bought {food} for one coin. Now {A.he} had
    two coins. {A.He} bought {food2} for one coin. Now {A.he} had one coin. {A.He} bought {food3} for the last coin. [{B} helped to carry the {food}.|{B} carried the
    basket.] When they came home, {A.his} {elder} looked into the basket. "{food}, {food2} and {food3}," said {A.his} {elder}. "Well done, {A}! You forgot nothing." """,
    "Listen well, and you will remember."),
    "gift": ("the {thing}", """
    It was the birthday of {B}, but {A} had no gift for {B}. "What does {B} like?" {A.he} asked [{A.himself}|{A.his} {elder}]. Then {A.he} had an idea. {B} [loved|liked]
    the colour {colour}, and {B.he} had always wanted {a noun}. So {A} [worked all day|worked all night|sat down at once] and made {a thing}.
    {A.He} [put it in a box|wrapped it in paper] and [carried|took] it to {B}. "Happy birthday, {B}!" said {A}. "This is for you." {B} opened [the gift|it] and
    [smiled|laughed|clapped {B.his} hands]. "{a thing}!" {B.he} said. "I have always wanted {a noun}, and {colour} is the colour I [love|like] most. Thank you, {A}!"
    "I made it [for you|myself]," said {A}. {B} [took|carried] the {noun} to {place} and showed it to everyone. "Look at my {thing}," {B.he} said. "{A} made it for me." """,
    "The best gift is made with love."),
    "secret": ("the secret", """
    One day, {A} found {a thing} {spot} at {place}. {A.He} told only {B}. "I have a secret," {A.he} said. "There is {a thing} {spot}. Do not tell
    anyone." "I promise," said {B}. [Soon|The next day], {a animal} came to {B}. "What did {A} tell you?" asked the {animal}. "It is a secret," said {B}.
    "I will give you {number} {food} if you tell me," said the {animal}. {B} [liked|loved] {food}, but {B.he} shook {B.his} head. "No," {B.he} said. "I promised {A}
    not to tell anyone." The {animal} went away. When {A} heard about the {number} {food}, {A.he} was [proud of|happy with] {B}. "You kept my secret," {A.he} said.
    "Come, the {noun} is for both of us." They went to {place} and looked {spot}, and the {thing} was still there.""",
    "A true friend keeps a promise."),
    "journey": ("the journey", """
    <first=over the green hill|across the wooden bridge|through the dark forest|past the old tower><second=along the river|through a field of flowers|around
    the blue lake|up a narrow path><end=the sea|the snow mountain|the big city|the great waterfall|the golden tower>One morning, {A} [wanted|decided] to go to
    {end}. "May I come too?" asked {B}. "Of course," said {A}. They [packed|took] {food} and {a thing} and set out. First they went {first}. Then they went
    {second}. On the way they met {a animal}. "Where are you going?" asked the {animal}. "We are going to {end}," said {A}. The {animal} was hungry, so {B} gave it some {food}. "Thank you," said the
    {animal}. At last they [came to|reached] {end}. It was [beautiful|wonderful]. {A} left the {thing} there [as a gift|so that others could find it]. In the evening they
    went back. First they went {second}, and then they went {first}. Soon they were home again. "We have seen {end}!" {B} told everyone.""",
    "Every long way begins with one step."),
    "learn": ("the lesson", """
    <skill=swim|read|ride a bicycle|whistle|dance|paint|skate|cook|sing>{A} could not {skill}. {A.He} was [sad|ashamed|unhappy] because all the others could {skill}. "Can you
    teach me to {skill}?" {A.he} asked {B}. "Yes," said {B}. "Come to {place} [tomorrow|in the morning]." [The next day|In the morning], {A} went to {place}, where {B} was waiting.
    The first time, {A} tried and failed. The second time, {A.he} tried and failed again. "I will never learn to {skill}," said {A}. "Try once more," said {B}. "I failed many times
    too." The third time, {A} did it! "I can {skill}! I can {skill}!" {A.he} [shouted|cried]. {B} [clapped|laughed with joy]. [When {A.he} came home, {A.his} {elder} asked, "What did you do today?"
    "{B} taught me to {skill}," said {A}.|{A.His} {elder} was very proud of {A.him}.]""",
    "Nobody is too small to learn."),
    "song": ("the song", """
    <line1={w1} and {w2}, sun and sea|Little {w1}, where are you|{w1}, {w1}, shining bright|Up the hill and down the {w2}><line2=come and sing a song with me|I will bring
    {a w3} too|stay with us all through the night|{w3} and {w4}, go to sleep>{A} [knew|had made] a song. {A.He} sang it every [morning|evening]: "{line1}, {line2}." {B} [heard it|listened] and liked
    it. "Please sing it again," said {B}. So {A} sang it again: "{line1}, {line2}." [Then they went to {place}|They walked to {place}|Later {B} was alone at {place}]. {B} wanted to sing too. "How does the song go?"
    {B.he} [asked|thought]. "{line1}, {line2}," sang {A}. Now {B} knew it. They sang it together: "{line1}, {line2}." Even the {animal} {spot} [listened|began to
    dance].""",
    "A song is best when it is shared."),
    "parrot": ("the {bird}", """
    <bird=parrot|raven|jackdaw>{A} had a [clever|funny|green|talking] {bird}. The {bird} repeated everything that it heard. "{w1}, {w2}, {w3}," said {A}. "{w1}, {w2}, {w3}," said the
    {bird}. {B} [laughed|did not believe it]. [{B.He} wanted to try it.|It was the turn of {B}.] "{w4}, {w5}, {w6}, {w7}," said {B}. "{w4}, {w5}, {w6}, {w7}," said the {bird}. [{A} tried a long one.|Then {A} tried again.]
    "{w2}, {w8}, {w1}, {w5}, {w3}," {A.he} said. "{w2}, {w8}, {w1}, {w5}, {w3}," said the {bird}. {A} and {B} laughed and gave the {bird} some {food}. "{food}! {food}!" said the
    {bird}. In the evening, {A.his} {elder} came and said, "Good night, {A}." "Good night, {A}," said the {bird}.""",
    "Be careful what you say, for somebody listens."),
    "echo": ("the echo", """
    {A} and {B} [came to|found] a [deep|dark|large] cave near {place}. "Hello!" called {A}. "Hello!" answered the cave. "Who is there?" called {B}. "Who is there?" answered the
    cave. {B} was afraid, but {A} [laughed|smiled]. "It is only an echo," {A.he} said. "Listen! {w1} and {w2}!" "{w1} and {w2}!" answered the cave. Now {B} wanted to try. "{w3}, {w4}
    and {w5}!" called {B}. "{w3}, {w4} and {w5}!" answered the cave. "I like {A}!" called {B}. "I like {A}!" answered the cave. "I like {B}!" called {A}. "I like {B}!" answered the
    cave. "Now the cave likes both of us," said {B}.""",
    "Speak kindly, and kind words come back."),
    "spell": ("the magic door", """
    <a1=abra|zuli|mora|tiki|bilo><a2=kama|dobo|rune|sela|fizz><a3=tom|lar|bim|nok|zum>{A} found an old book {spot}. In the book there was a spell: "{a1} {a2} {a3}, {a2} {a3}." [At {place}|Near {place}] there was a small
    door that nobody could open. {A} and {B} stood before the door. "{a1} {a2} {a3}, {a2} {a3}," said {A}. The door opened! Inside they found {a thing} and {a thing2}. {A} took the {noun}, and {B} took the
    {noun2}. Then the door closed again. "How do we get out?" asked {B}. "[Read|Say] the spell again," said {A}. "{a1} {a2} {a3}, {a2} {a3}," said {B}. The door opened, and they ran out.
    {A} still had the {thing}, and {B} still had the {thing2}. "Never forget the words," said {A}. "{a1} {a2} {a3}, {a2} {a3}," said {B}.""",
    "Words can open doors."),
    "message": ("the message", """
    <who=the miller|the king|the baker|the teacher|the old farmer><news=the boat leaves at noon|the bridge is broken|the {food} are ripe|there is {a animal} in the barn|the {noun} is {spot}|the feast begins at {number}>
    One day, {A.his} {elder} said, "{A}, run to {who} and say: {news}." {A} ran as fast as {A.he} could. At {place} {A.he} met {B}. "Where are you running?" asked {B}. "I am running to {who}," said {A}. "What will you say?" asked
    {B}. "I will say: {news}," said {A}. {B} ran with {A.him}. At last they came to {who}. "{news}," said {A}. "Thank you, {A}," said {who}. "It is good to know that {news}." {A} and {B} each got {a colour2} {noun2}. At home,
    {A.his} {elder} asked, "What did you say to {who}?" "{news}," said {A}. "Well done," said {A.his} {elder}.""",
    "A good messenger changes nothing."),
    "garden": ("the garden", """
    {B} gave {A} a [small|strange|tiny] seed. "What will it become?" asked {A}. "Wait and see," said {B}. {A} planted the seed {spot}. Every [morning|day] {A.he} gave it some water. [The first week|For a long time] nothing happened.
    "Be patient," said {B}. Then a little green leaf came out of the earth. Day after day it grew. At last there was a tall plant with {colour} flowers. "Look, {B}!" said {A}. "Your seed has {colour} flowers!" [Soon|In autumn] there were
    {food} too. {A} picked {number} {food} and gave them to {B}. "These are from your seed," {A.he} said. {B} tasted [them|one] and smiled. "Now you must keep a new seed," {B.he} said, "and give it to a friend." """,
    "Good things need time."),
    "share": ("the {thing}", """
    One day, {A} and {B} found {a thing} {spot} at {place}. "It is mine!" said {A}. "I saw it first." "No, it is mine!" said {B}. "I touched it first." They [pulled and pulled|shouted at each other], until the {noun} fell on the
    ground. An old {animal} came by. "Why do you fight?" asked the {animal}. "We both want the {noun}," said {A} and {B}. "Then share it," said the {animal}. "{A} may have it today, and {B} may have it tomorrow." {A} looked at {B}, and {B}
    looked at {A}. "I am sorry," said {A}. "I am sorry too," said {B}. So {A} took the {thing} that day, and {B} took it the next day. [Often they used it together.|They never fought about the {noun} again.]""",
    "Sharing is better than fighting."),
    "race": ("the race", """
    {A} was [very fast|quick], and {B} was [slow|not so fast]. "Let us run from {place} to {place2}," said {A}. "I will surely win." "Good," said {B}. {a animal} called, "One, two, three, go!" {A} ran away so fast that {B} could not see
    {A.him}. Halfway, {A} saw [some|a basket of] {food} {spot}. "I have time," said {A}, and {A.he} stopped to eat the {food}. {B} did not stop. [Step by step|Slowly but surely], {B.he} went on. When {A} had eaten all the {food},
    {A.he} ran to {place2}, but {B} was already there. "You won!" said {A}. "How did you do it?" "I did not stop to eat {food}," said {B}. {A} [laughed|smiled] and gave {B.him} {a thing} as a prize.""",
    "Slow and steady wins the race."),
    "night": ("the noise", """
    One night, {A} could not sleep. There was a noise {room}. [Knock, knock, knock!|Tap, tap, tap!|Scratch, scratch!] "Is it a [monster|ghost|giant]?" thought {A}. {A.He} was afraid. {A.He} woke {B} and said, "There is a noise {room}."
    {B} took {a thing}, and {A} took a [lamp|candle]. Slowly they went to look {room}. It was only a small {animal}! The {animal} was [hungry|cold|lonely]. "Poor little {animal}," said {B}. "We were afraid of you, and you were afraid of us." {A}
    gave the {animal} some {food}. The {animal} ate the {food} and fell asleep. After that, {A} was no longer afraid of the dark.""",
    "Look closely, and your fear grows small."),
    "bake": ("the cake", """
    {A} wanted to bake a cake for {A.his} {elder}. {A.He} needed flour, {food} and honey. {A} had flour, but {A.he} had no {food} and no honey. {B} had {food}, and {a animal} had honey. "Will you give me some {food}?" {A.he} asked {B}. "Yes, if I may have a piece
    of the cake," said {B}. "Will you give me some honey?" {A.he} asked the {animal}. "Yes, if I may have a piece of the cake," said the {animal}. {A} mixed the flour, the {food} and the honey and baked the cake. Then {A.he} cut it into four pieces. One piece
    was for {B}, one piece was for the {animal}, one piece was for {A.his} {elder}, and the last piece was for {A}. "This is the best cake in the world," said {A.his} {elder}.""",
    "Many hands make a good cake."),
    "truth": ("the {thing}", """
    One day, {A} was playing with {a noun2} in the house. The {noun2} hit the {thing} of {A.his} {elder}, and the {noun} broke. {A} was afraid. {A.He} hid the {noun} {room}. In the evening, {A.his} {elder} asked, "Where is my {thing}?" "I do not know,"
    said {A}. But {A.he} felt [bad|terrible]. {A.He} told {B} [about it|everything]. "You must tell the truth," said {B}. "I will come with you." So {A} went to {A.his} {elder}. "I broke your {thing}," {A.he} said. "I hid it {room}. I am sorry."
    {A.His} {elder} was not angry. "Thank you for telling the truth," said {A.his} {elder}. "A {noun} can be mended." Together they mended the {noun}, and it [was as good as new|looked as {colour} as before].""",
    "The truth makes the heart light."),
    "stranger": ("the stranger", """
    One day, a stranger came to {place}. "My name is {stranger}," he said, "and I come from {land}." Nobody had ever heard of {land}. "Is {land} far away?" asked {A}. "Yes," said {stranger}. "I walked for {number} weeks. In {land} the houses are {colour},
    and the people eat {food}." [{B} asked, "Are you hungry, {stranger}?"|"Are you hungry, {stranger}?" asked {B}.] "Very hungry," said {stranger}. {A} and {B} gave him {food2}. {stranger} thanked them and gave them {a thing}. "If you ever come to {land}," he said,
    "show this {noun} and say that {stranger} is your friend." Then {stranger} went on his way. "One day we will go to {land}," said {A}, "and see the {colour} houses." "And we will eat {food} with {stranger}," said {B}.""",
    "A stranger is a friend you do not know yet."),
    "riddle": ("the riddle", """
    A wise {animal} sat {spot} at {place}. "Who can answer my riddle?" asked the {animal}. "{riddle} What is it?" {A} thought for a long time. "Is it {a noun}?" asked {A}. "No," said the {animal}. "It is not {a noun}." {B}
    thought too. "Is it {answer}?" asked {B}. "Yes, it is {answer}!" said the {animal}. "How did you know?" asked the {animal}. {B} [smiled|laughed]. "{because}," {B.he} said. The {animal} gave {B} {a thing}, and {B} [shared the prize with|showed it to] {A}.""",
    "Think before you speak."),
    # Short ones: one thought, five or six sentences.
    "nest": ("the little bird", """
    <bag=basket|box|hat|scarf|bucket>One day, {A} found a little bird {spot}. The little bird had fallen out of its nest. "We must help it," said {A}. {B} held {a bag}, and {A} put the little bird into the {bag}. Then they
    carried it back to its nest. The little bird sang for {A} and {B}.""",
    "Be kind to those who are small."),
    "hat": ("the {colour} hat", """
    {A} wore {a colour} hat. The wind took the {colour} hat and carried it to {place}. "My hat!" cried {A}. {B} ran and ran. At {place}, {B.he} caught the {colour} hat and brought it back to {A}. "Hold it tight next time," said {B}.""",
    "Hold on to what you love."),
    "hungry": ("the {food}", """
    {A} had {number} {food}, but {B} had nothing to eat. "Are you hungry, {B}?" asked {A}. "Yes, I am very hungry," said {B}. {A} gave {B} some of the {food}. They sat {spot} and ate the {food} together. "{food} taste better with a friend," said {B}.""",
    "Food tastes best when it is shared."),
    "hide": ("the game", """
    {A} and {B} played hide and seek at {place}. {A} closed {A.his} eyes and counted to {number}. {B} hid {spot}. {A} looked {spot2}, but {B} was not there. Then {A} looked {spot}. "I found you!" {A.he} cried. "Now it is my turn to hide," {A.he} said.""",
    "Play fair and have fun."),
    "lie": ("the {noun}", """
    "Where is my {thing}?" asked {A}. "I have not seen it," said {B}. But the {thing} was {spot}, and {B} had put it there. {B} was ashamed. "I am sorry, {A}," {B.he} said. "Your {thing} is {spot}. I wanted to play a trick on you." {A} went and got the {noun}. "I forgive you," {A.he} said.""",
    "It is good to say sorry."),
    "star": ("the star", """
    One night, {A} and {B} sat {spot} and looked at the sky. They saw a falling star. "Make a wish," said {B}. "I wish for {a thing}," said {A}. "And I wish that you get {a thing}," said {B}. In the morning, there was {a thing} {spot}. {A} laughed and thanked {B}.""",
    "A friend wishes you well."),
    "boat": ("the boat", """
    <water=the lake|the pond|the river><shore=the big bridge|the harbour|the beach>{A} made {a colour} boat out of paper. {A.He} put the boat on the water at {water}. The {colour} boat sailed away, and {A} was sad. {B} waited at {shore} and caught the boat there. "Here is your {colour} boat," said {B}. {A} was happy again.""",
    "What goes away may come back."),
    "name": ("{pet}", """
    {A} got a small {animal} from {A.his} {elder}. "What is its name?" asked {B}. "Its name is {pet}," said {A}. One day, {pet} ran away. "{pet}! {pet}!" called {A}. "{pet}! {pet}!" called {B}. They found {pet} {spot} at {place}. "Good {pet}," said {A} and gave {pet} some {food}.""",
    "Take good care of your friends."),
    "letter": ("the letter", """
    {A} wrote a letter to {B}. The letter said, "Come to {place} and bring {a thing}." {B} read the letter and was happy. {B.He} took {a thing} and went to {place}. {A} was waiting there with {food}. "You came!" said {A}. "And you brought the {thing}!\" """,
    "A letter brings joy."),
    "tired": ("the long way", """
    {A} and {B} walked from {place} to {place2}. {B} was tired. "I cannot go on," said {B}. "Sit on my back," said {A}. {A} carried {B} to {place2}. There they ate {food} and rested {spot}. "You carried me to {place2}," said {B}. "I will never forget it.\" """,
    "A friend carries you when you are tired."),
    "trade": ("the trade", """
    {A} had {a thing}, and {B} had {a thing2}. {A} wanted the {noun2}, and {B} wanted the {noun}. "Let us trade," said {A}. {A} gave {B} the {thing}, and {B} gave {A} the {thing2}. Now {A} had {a thing2}, and {B} had {a thing}. Both were happy.""",
    "A fair trade makes two people happy."),
}
