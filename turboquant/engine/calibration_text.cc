// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/calibration_text.h"

#include "turboquant/base/hash.h"

namespace tq {
namespace {

constexpr std::string_view kText =
    R"(The ferry left at twenty past six, a little late, because a lorry full of beehives had to be turned round on the ramp. Marta stood at the rail and counted the lamps along the quay. She had made this crossing perhaps two hundred times, first as a child with a paper bag of cherries, later with textbooks, and now with a folder of drawings for a bridge that would make the ferry unnecessary. The engineer in her was pleased. The rest of her watched the water and said nothing.

"You are the bridge lady," said the old man beside her. It was not a question.
"I am one of eleven bridge people," she said. "I only do the bearings."
"And what is a bearing?"
"It is the part that lets the bridge move. Steel grows in the sun. If you hold it too tightly, it breaks whatever is holding it."
He thought about that until the lighthouse came into view. "My wife says the same about me," he said at last.

```python
from dataclasses import dataclass, field
import heapq


@dataclass(order=True)
class Event:
    time: float
    name: str = field(compare=False)


def simulate(events, until=60.0):
    """Runs events in the order of their time; returns (time, name) pairs."""
    queue = list(events)
    heapq.heapify(queue)
    log = []
    while queue and queue[0].time <= until:
        event = heapq.heappop(queue)
        log.append((round(event.time, 3), event.name))
        if event.name == "arrival":
            heapq.heappush(queue, Event(event.time + 4.25, "departure"))
    return log


if __name__ == "__main__":
    for when, what in simulate([Event(1.5, "arrival"), Event(3.0, "arrival")]):
        print(f"{when:8.3f}  {what}")
```

Am Morgen lag Nebel über dem Tal, und die Kirchturmuhr schlug sieben, obwohl es erst halb war. Der Uhrmacher, der das seit Jahren wusste, hatte es nie berichtigt: Die Kinder kamen so wenigstens pünktlich zur Schule. Als im Herbst ein neuer Pfarrer ins Dorf zog und sich beschwerte, antwortete ihm der Bürgermeister, eine Uhr, die immer gleich falsch gehe, sei zuverlässiger als eine, die nur manchmal recht habe.

Water boils at a lower temperature on a mountain because the air presses less hard on its surface. At sea level it takes 100 degrees Celsius; at 3,000 metres about 90; on the highest summits barely 71. That is why pasta takes longer there and why bakers in high towns change their recipes: dough rises faster, dries sooner, and needs a hotter oven. A pressure cooker does the opposite. By holding the steam in, it raises the boiling point to around 120 degrees, and beans that need two hours in an open pot are soft in thirty minutes.

| city      | population | area (km2) | founded | density |
|-----------|-----------:|-----------:|--------:|--------:|
| Norrvik   |     48,210 |       61.4 |    1287 |   785.2 |
| Estermond |  1,204,377 |      312.9 |     904 |  3849.1 |
| Palo Seco |      9,865 |      140.0 |    1951 |    70.5 |
| Ha Thanh  |    377,040 |       88.7 |    1473 |  4250.7 |

User: My program prints 0.30000000000000004 when I add 0.1 and 0.2. Is my computer broken?
Assistant: No. Computers store such numbers in binary, and neither 0.1 nor 0.2 can be written exactly with a finite number of binary digits, just as 1/3 cannot in decimal. Each is rounded to the nearest number that fits into 64 bits, and the two small errors become visible in the sum. For money, count cents in whole numbers; for comparisons, allow a small tolerance such as 1e-9.
User: So which numbers are exact?
Assistant: Integers up to 9007199254740992, and fractions whose denominator is a power of two: 0.5, 0.25, 0.375, and so on.

La boulangère de la rue des Tilleuls fermait toujours à midi, sauf le jeudi. Ce jour-là, elle laissait la porte entrouverte et posait sur le comptoir une corbeille de pains un peu trop cuits, avec un écriteau : « Servez-vous, et racontez-moi une histoire. » Les enfants apportaient des mensonges magnifiques, les vieux des souvenirs, et le facteur, qui n'avait jamais le temps, laissait une seule phrase qu'il continuait la semaine suivante.

```cpp
// A ring of the last N readings; the mean costs nothing to ask for.
template <typename T, std::size_t N>
class MovingMean {
 public:
  void Add(T value) {
    sum_ += value - ring_[next_];
    ring_[next_] = value;
    next_ = (next_ + 1) % N;
    if (count_ < N) ++count_;
  }
  double Mean() const { return count_ == 0 ? 0.0 : static_cast<double>(sum_) / count_; }

 private:
  std::array<T, N> ring_{};
  T sum_ = 0;
  std::size_t next_ = 0, count_ = 0;
};
```

The parties agree as follows. (1) The Tenant shall pay the rent of EUR 1,150.00 on or before the third working day of each month. (2) If payment is more than fourteen days late, the Landlord may charge interest at a rate not exceeding five per cent per year. (3) Repairs whose cost does not exceed EUR 100 in a single case and EUR 350 in a calendar year shall be borne by the Tenant; all others by the Landlord, provided that the defect was reported without undue delay. (4) This agreement may be terminated by either party with three months' notice in writing.

从前有一个住在河边的木匠,他做的椅子从来不摇晃。有人问他秘诀,他说:"我先听木头说话。"村里的孩子们觉得好笑,于是躲在窗外偷听。整个下午,只听见刨子的声音和远处的水声。傍晚时分,木匠放下工具,轻轻敲了敲桌面,笑着说:"听见了吗?它说今天可以休息了。"

To prove that there are infinitely many primes, suppose that there were only finitely many, p1, p2, ..., pn. Let N = p1 * p2 * ... * pn + 1. Dividing N by any of the primes leaves a remainder of 1, so none of them divides N. But every integer greater than 1 has a prime factor. Hence there is a prime that is not in the list, which contradicts the assumption. Note that N itself need not be prime: 2 * 3 * 5 * 7 * 11 * 13 + 1 = 30031 = 59 * 509.

2031-04-17 08:12:44 INFO  worker-3 picked up job 88121 (resize, 14 files)
2031-04-17 08:12:45 WARN  worker-3 file 9 of 14 has no colour profile, assuming sRGB
2031-04-17 08:12:47 ERROR worker-3 job 88121 failed: disk quota exceeded (used 20.0 GiB of 20.0 GiB)
2031-04-17 08:12:47 INFO  scheduler job 88121 will be tried again in 300 s (attempt 2 of 5)
2031-04-17 08:17:48 INFO  worker-1 picked up job 88121 (resize, 14 files)

Grandmother kept her recipes in a tin that had once held biscuits, written on the backs of envelopes, tickets and, in one case, a parking fine. None of them gave quantities. "Flour until it feels right," said the one for dumplings, "and then a little less." For years we thought that she wanted to keep the secret for herself. Only when my sister tried to write the recipes down properly, with scales and a stopwatch, did we understand that there was no secret: the flour was different every week, the eggs came from different hens, the stove was hot when the wind blew from the west and sulky when it did not, and the only instrument in the kitchen that took all of this into account was a pair of hands.

SELECT c.name, COUNT(o.id) AS orders, SUM(o.total) AS revenue
FROM customers AS c
LEFT JOIN orders AS o ON o.customer_id = c.id AND o.placed_at >= '2030-01-01'
GROUP BY c.name
HAVING SUM(o.total) > 1000
ORDER BY revenue DESC
LIMIT 20;

{"id": 4417, "type": "sensor", "place": {"lat": 47.3769, "lon": 8.5417, "floor": 2}, "readings": [21.5, 21.7, 21.6, 22.0, null, 21.9], "tags": ["office", "north"], "ok": true}

The orchestra tuned for a long time that evening. The oboe gave its A, the strings took it up, and for half a minute the hall was filled with that wide, restless fifth which is perhaps the only piece of music that everybody likes. Then the conductor came out, bowed, raised both hands, and put them down again. Somewhere in the third row a telephone was ringing. It rang four times, five times; nobody moved. At the sixth ring the first violin, without looking up, played the same four notes back, a third higher, and the whole hall laughed, and the owner of the telephone, who was the mayor, laughed loudest of all.

Question: A train leaves at 9:40 and travels 168 km at an average speed of 96 km/h. When does it arrive?
Answer: 168 / 96 = 1.75 hours, which is 1 hour and 45 minutes. 9:40 plus 1:45 is 11:25. The train arrives at 11:25.

Question: A shirt costs 45 euros after a discount of 25 percent. What did it cost before?
Answer: 45 euros are 75 percent of the old price, so the old price was 45 / 0.75 = 60 euros.

Photosynthesis turns light into sugar in two stages. In the first, chlorophyll in the membranes of the chloroplast absorbs light and uses its energy to split water; oxygen is released, and the energy is kept for a moment in two small molecules, ATP and NADPH. In the second stage, which needs no light, these two drive a cycle of reactions that builds sugar from carbon dioxide. The key enzyme of the cycle is slow and makes mistakes: about one time in four it catches oxygen instead of carbon dioxide, and the plant has to repair the damage. Maize and sugar cane have found a way round this by concentrating carbon dioxide where the enzyme works.

Wer eine Fremdsprache lernt, merkt bald, dass nicht die Wörter das Schwierigste sind, sondern die Pausen dazwischen: wann man schweigt, wann man nickt, wann ein „Ja“ eigentlich „Nein“ bedeutet. „Vielleicht“, sagte mein Lehrer, „ist Sprache überhaupt nur das, was die Pausen zusammenhält.“ Er hieß Herr Öztürk-Weiß, unterrichtete seit 38 Jahren und hatte nie eine Note schlechter als 4 gegeben.

function debounce(fn, delay = 250) {
  let timer = null;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => fn(...args), delay);
  };
}
document.querySelector("#search").addEventListener("input", debounce(async (event) => {
  const response = await fetch(`/api/search?q=${encodeURIComponent(event.target.value)}`);
  if (!response.ok) throw new Error(`search failed: ${response.status}`);
  render(await response.json());
}));

Dear Ms Oyelaran, thank you for your letter of 3 March. We have looked into the matter and found that the parcel was delivered to number 17 instead of number 71. Our driver has apologised to the family at number 17, who had already eaten the chocolates, and a replacement is on its way to you. Please accept the enclosed voucher with our regrets. Yours sincerely, P. Lindqvist, Customer Care.

When the snow came, it came all at once. By four o'clock the road over the pass was closed, by five the telephone was dead, and by six there were nineteen people in a hut that had been built for eight. Somebody found candles. Somebody else found an accordion with three broken keys. A surgeon from Lyon peeled potatoes beside a boy who had run away from home that morning and had not yet decided whether to tell anyone. Outside, the wind went round and round the walls like an animal that has lost something. Inside, the soup was thin, the stories were long, and when the plough reached the door two days later, several of them were sorry to see it.
)";

}  // namespace

std::string_view CalibrationText() { return kText; }

uint64_t CalibrationTextHash(std::string_view text) {
  if (text.empty()) text = kText;
  return Hash64(std::as_bytes(std::span(text)));
}

}  // namespace tq
